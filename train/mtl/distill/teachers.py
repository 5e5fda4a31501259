"""The teachers that settings name, opened and checked against the network that learns from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_mtl.bundle import Bundle
from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_file
from edge_mtl.tasks import Specs
from mtl.distill.answers import AnswerTeacher
from mtl.distill.distillation import Distillation
from mtl.distill.features import FeatureTeacher, feature_teacher
from mtl.models import MultiTaskModel
from mtl.settings import DistillSettings, RunSettings
from mtl.tasks import head_of

__all__ = ["answer_teacher", "make_distillation"]


def make_distillation(settings: RunSettings, model: MultiTaskModel) -> Distillation | None:
    """The teachers that the settings name; None for none.

    Raises:
        BuildError, CheckpointError, BundleError: as the teachers do.
    """
    wanted = settings.distill
    if wanted.graph:
        return _from_graph(wanted, model)
    if not wanted.answers and not wanted.features:
        return None
    answers = features = None
    teachers = []
    if wanted.answers:
        path = Path(wanted.answers)
        if not path.exists():
            raise BuildError(f"distill.answers: there is no {path}. Give runs/NAME/best.safetensors, or the folder of a bundle")
        answers = answer_teacher(path, model.specs, weights=wanted.weights, canonical=settings.data.canonical)
        digest = Bundle.open(path).digest if path.is_dir() else sha256_file(path)
        about = {} if path.is_dir() else {"run": path.resolve().parent.name}
        teachers.append(_record(path, digest, {"answers": list(answers.tasks), "about": about}))
    if wanted.features:
        path = Path(wanted.features_file)
        channels, strides = _maps_of(model)
        normalisation = wanted.features_normalisation
        features = feature_teacher(wanted.features, path, channels=channels, strides=strides, normalisation=normalisation)
        teachers.append(_record(path, sha256_file(path), {"features": True, "about": {"backbone": wanted.features}}))
    return Distillation(wanted, model.specs, answers=answers, features=features, teachers=teachers)


def _from_graph(wanted: DistillSettings, model: MultiTaskModel) -> Distillation:
    """The teacher of answers, of features or of both that an ONNX graph is."""
    from mtl.distill.graph import GraphAnswers, GraphMaps, TeacherGraph  # with onnx and a runtime

    path = Path(wanted.graph)
    graph = TeacherGraph(path, precision=wanted.graph_precision)
    answers = features = None
    if any(wanted.weights.get(task, 1.0) > 0 for task in graph.notes.tasks):
        tasks = _taught(model.specs, graph.notes.tasks, weights=wanted.weights, source=f"distill.graph: {path}")
        answers = GraphAnswers(graph, tasks)
    elif not graph.notes.tasks and (wanted.weights or wanted.sources):
        raise BuildError(
            f"distill.graph: {path} has no answers, which distill.weights and distill.sources are for. Remove them"
        )
    if graph.notes.features and wanted.features_weight > 0:
        channels, strides = _maps_of(model)
        features = FeatureTeacher(GraphMaps(graph, strides), channels)
    if answers is None and features is None:
        raise BuildError(f"distill.graph: nothing of {path} is learnt: it has no answers, and no features with a weight")
    content = {"answers": list(answers.tasks) if answers is not None else [], "features": features is not None}
    record = _record(path, graph.sha256, {**content, "about": dict(graph.notes.about), "run_by": graph.run_by})
    return Distillation(wanted, model.specs, answers=answers, features=features, teachers=[record])


def _maps_of(model: MultiTaskModel) -> tuple[list[int], list[int]]:
    """Channels and strides of the maps that a network's decoder and heads read."""
    reads, whole = model.reads, model.backbone
    return [whole.channels[level] for level in reads], [whole.strides[level] for level in reads]


def _record(path: Path, digest: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a teacher: no folder of this machine."""
    return {"file": path.resolve().name, "sha256": digest, **{key: value for key, value in content.items() if value}}


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
    return AnswerTeacher(trained.model, _taught(specs, trained.model.specs, weights=weights, source=f"distill.answers: {path}"))


def _taught(specs: Specs, theirs: Specs, *, weights: Mapping[str, float], source: str) -> list[str]:
    """The tasks that a teacher means as they are meant here. Raises BuildError: none of them, or not those with a weight."""
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
            f"{source} cannot teach {', '.join(asked) or 'any task'} ({reason}). "
            "Choose another teacher, or give these tasks the weight 0 in distill.weights"
        )
    return taught
