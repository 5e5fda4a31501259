"""The teachers that settings name, opened and checked against the network that learns from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.distill.answers import AnswerTeacher
from mtl.distill.distillation import Distillation
from mtl.distill.features import feature_teacher
from mtl.models import MultiTaskModel
from mtl.settings import RunSettings
from mtl.tasks import head_of

__all__ = ["answer_teacher", "make_distillation"]


def make_distillation(settings: RunSettings, model: MultiTaskModel) -> Distillation | None:
    """The teachers that the settings name; None for none.

    Raises:
        BuildError, CheckpointError, BundleError: as the teachers do.
    """
    wanted = settings.distill
    if not wanted.answers and not wanted.features:
        return None
    answers = features = None
    if wanted.answers:
        path = Path(wanted.answers)
        if not path.exists():
            raise BuildError(f"distill.answers: there is no {path}. Give runs/NAME/best.safetensors, or the folder of a bundle")
        answers = answer_teacher(path, model.specs, weights=wanted.weights, canonical=settings.data.canonical)
    if wanted.features:
        reads, whole = model.decoder.reads, model.backbone
        features = feature_teacher(
            wanted.features,
            Path(wanted.features_file),
            channels=[whole.channels[level] for level in reads],
            strides=[whole.strides[level] for level in reads],
            normalisation=wanted.features_normalisation,
        )
    return Distillation(wanted, model.specs, answers=answers, features=features)


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
