"""How far answers are from those of a teacher, and a trained network of this package as one.

Distances are those of the label losses, so that weights of tasks mean the same: cross-entropy becomes Kullback-Leibler
divergence (Hinton et al. 2015, arXiv:1503.02531). They need no truth, and are there for every pixel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.settings import LossSettings
from mtl.tasks import head_of

if TYPE_CHECKING:
    from mtl.models import MultiTaskModel

__all__ = ["AnswerTeacher", "answer_teacher", "distances"]


def distances(
    specs: Specs,
    answers: Mapping[str, Any],
    wanted: Mapping[str, Any],
    settings: LossSettings,
    *,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """By task that `wanted` has, how far the answers are from it: a scalar each."""
    return {
        task: head_of(spec).softened(spec, answers[task], wanted[task], settings, temperature=temperature)
        for task, spec in specs.items()
        if task in wanted
    }


class AnswerTeacher:
    """A trained network whose answers are learnt; it stays as it is.

    Attributes:
        tasks: those that it teaches.
    """

    def __init__(self, model: MultiTaskModel, tasks: Collection[str]) -> None:
        self.tasks = tuple(tasks)
        self._model = model.eval().requires_grad_(False)

    def to(self, device: torch.device) -> AnswerTeacher:
        """The same one, where the network that it teaches is."""
        self._model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, image: Tensor, like: Mapping[str, Any]) -> dict[str, Any]:
        """What it says of images.

        Args:
            image: (B, 3, H, W) float RGB in 0..255.
            like: answers of the network that learns: maps of another size are resized to theirs, bilinear.
        """
        found = self._model(self._model.normalise(image))
        return {task: _resized(found[task], like[task]) for task in self.tasks}


def answer_teacher(path: Path, specs: Specs, *, weights: Mapping[str, float], canonical: bool) -> AnswerTeacher:
    """The teacher that a checkpoint or a bundle is for a network with these tasks.

    Args:
        weights: by task, 0 for those that it should not teach.
        canonical: whether the network answers for the canonical camera.
    Raises:
        CheckpointError, BundleError: as `load_trained`.
        BuildError: it answers for another camera, or none of the tasks as they are meant here.
    """
    from mtl.bundling import load_trained  # with onnx: training without a teacher does without

    trained = load_trained(path)
    if trained.settings.data.canonical != canonical:
        raise BuildError(
            f"distill.answers: {path} was trained with data.canonical {str(not canonical).lower()}, this run with "
            f"{str(canonical).lower()}: they answer for different cameras. Choose another teacher, or set data.canonical"
        )
    theirs = trained.model.specs
    reasons: list[str] = []
    taught: list[str] = []
    for task, spec in specs.items():
        if weights.get(task, 1.0) == 0:
            continue
        if task not in theirs:
            reasons.append(f"{task}: it has no such task")
        elif theirs[task].kind != spec.kind:
            reasons.append(f"{task}: of the kind {theirs[task].kind} there, {spec.kind} here")
        elif (difference := head_of(spec).difference(spec, theirs[task])) is not None:
            reasons.append(f"{task}: {difference}")
        else:
            taught.append(task)
    asked = [task for task, weight in weights.items() if weight > 0 and task not in taught]
    if not taught or asked:
        reason = "; ".join(reasons) or "all weights are 0"
        raise BuildError(
            f"distill.answers: {path} cannot teach {', '.join(asked) or 'any task'} ({reason}). "
            "Choose another teacher, or give these tasks the weight 0 in distill.weights"
        )
    return AnswerTeacher(trained.model, taught)


def _resized(found: Any, like: Any) -> Any:
    if isinstance(found, Tensor) and found.ndim == 4 and found.shape[2:] != like.shape[2:]:
        return F.interpolate(found, size=tuple(like.shape[2:]), mode="bilinear", align_corners=False)
    return found
