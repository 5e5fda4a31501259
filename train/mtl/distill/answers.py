"""How far answers are from those of a teacher, and a network of this package as one.

Distances are those of the label losses, so that weights of tasks mean the same: cross-entropy becomes Kullback-Leibler
divergence (Hinton et al. 2015, arXiv:1503.02531). They need no truth, and are there for every pixel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_mtl.tasks import Specs
from mtl.settings import LossSettings
from mtl.tasks import head_of

if TYPE_CHECKING:
    from mtl.models import MultiTaskModel

__all__ = ["AnswerTeacher", "Teacher", "distances", "resized"]


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


class Teacher(Protocol):
    """Whose answers are learnt: a network of this package, or a graph (`mtl.distill.graph`)."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those that it teaches."""

    def to(self, device: torch.device) -> Teacher:
        """The same one, where the network that it teaches is."""

    def __call__(self, image: Tensor, like: Mapping[str, Any]) -> dict[str, Any]:
        """What it says of images, see `AnswerTeacher`."""


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
        return {task: resized(found[task], like[task]) for task in self.tasks}


def resized(found: Any, like: Any) -> Any:
    """An answer of a teacher; a map is brought to the size of the student's, bilinear."""
    if isinstance(found, Tensor) and found.ndim == 4 and found.shape[2:] != like.shape[2:]:
        return F.interpolate(found, size=tuple(like.shape[2:]), mode="bilinear", align_corners=False)
    return found
