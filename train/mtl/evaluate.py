"""Predictions at full size in the true camera, and their metrics over a source of frames.

A model is a function from images to answers; how an answer becomes a result is in `mtl.tasks`: bilinear with half-pixel
centres, then argmax or unit length, then from the canonical camera to the frame's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch

from edge_mtl.errors import BuildError
from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.tasks import Result, Specs, TaskSpec, kind_of, scoped
from mtl.datasets.augment import apply_view, whole_view
from mtl.datasets.frame import Frame, FrameSource
from mtl.datasets.mixture import MixtureFrames
from mtl.geometry import Intrinsics, canonical_intrinsics
from mtl.machine import computes_in_bf16
from mtl.models import MultiTaskModel
from mtl.nested import mapped
from mtl.settings import Precision
from mtl.tasks import head_of

if TYPE_CHECKING:
    from mtl.qat.network import QatNetwork

__all__ = [
    "Evaluation",
    "Judged",
    "Predictor",
    "ResultPredictor",
    "evaluate",
    "evaluate_by_source",
    "evaluate_fully",
    "judge",
    "mean_of_sources",
    "model_predictor",
]

Predictor = Callable[[np.ndarray], Mapping[str, Any]]
"""(B, H, W, 3) uint8 images -> answers by task, for the canonical camera; what a network says before its results."""


@runtime_checkable
class ResultPredictor(Protocol):
    """What gives results of the frame's own camera itself, as `edge_mtl.Engine` does."""

    def results(self, image: np.ndarray, intrinsics: Intrinsics) -> Mapping[str, Result]:
        """(H, W, 3) uint8 at network size, with its camera -> results by task, of the same size."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured over frames.

    Attributes:
        measures: as of `evaluate`.
        details: what metrics say besides (`Metric.details`); of a mixture, its sources say that.
        frames: how many.
        near_chance: of tasks whose answers are no better than guesses, sentences.
        sources: of a mixture, what was measured over the frames of each source.
    """

    measures: dict[str, float]
    details: dict[str, Any]
    frames: int
    near_chance: tuple[str, ...] = ()
    sources: Mapping[str, Evaluation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A frame at network size with what is true of it and what is predicted, by task, both in the frame's own camera."""

    image: np.ndarray
    truths: dict[str, Any]
    predicted: dict[str, Result]
    intrinsics: Intrinsics


def model_predictor(model: MultiTaskModel | QatNetwork, *, precision: Precision = "fp32") -> Predictor:
    """A model in evaluation mode as a predictor; it runs where its weights are and answers on the CPU."""
    device = next(model.parameters()).device
    bf16 = computes_in_bf16(precision, device)

    def predict(images: np.ndarray) -> Mapping[str, Any]:
        was_training = model.training
        model.eval()
        try:
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()
            with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                answers: dict[str, Any] = mapped(model(model.normalise(pixels)), torch.Tensor.cpu)
                return answers
        finally:
            model.train(was_training)

    return predict


def judge(
    predict: Predictor | ResultPredictor,
    frames: Sequence[Frame] | FrameSource,
    specs: Specs,
    *,
    size: tuple[int, int],
    batch: int = 4,
    canonical: bool = True,
    answers_for: Intrinsics | None = None,
) -> Iterator[Judged]:
    """Predict every frame at a network size, whole and upright.

    Args:
        specs: the tasks that `predict` answers, and whose truths are wanted.
        answers_for: the camera that `predict` answers for, where a bundle says so; goes before `canonical`.
        canonical: whether `predict` answers for the canonical camera; false for the frames' own, as the study did.
    """
    height, width = size
    for first in range(0, len(frames), batch):
        views = []
        for index in range(first, min(first + batch, len(frames))):
            frame = frames[index]
            view = whole_view(frame.size, aspect=width / height)
            views.append(apply_view(frame, view, specs, size=size, canonical=False))
        if isinstance(predict, ResultPredictor):
            for seen in views:
                results = predict.results(seen.image, seen.intrinsics)
                own = {name: result for name, result in results.items() if name in specs}
                yield Judged(seen.image, seen.truths, own, seen.intrinsics)
            continue
        answers = predict(np.stack([view.image for view in views]))
        for number, seen in enumerate(views):
            seen_by = answers_for or (canonical_intrinsics(height, width) if canonical else seen.intrinsics)
            predicted = {
                name: head_of(spec).result(spec, _one(answers[name], number), size, seen_by=seen_by, camera=seen.intrinsics)
                for name, spec in specs.items()
                if name in answers
            }
            yield Judged(seen.image, seen.truths, predicted, seen.intrinsics)


def _one(answer: Any, number: int) -> Any:
    """The answer for one frame of a batch, as a batch of one."""
    return mapped(answer, lambda tensor: tensor[number : number + 1])


def evaluate(
    predict: Predictor,
    frames: FrameSource,
    specs: Specs,
    *,
    size: tuple[int, int],
    batch: int = 4,
    canonical: bool = True,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Measures over all frames at full network resolution, bars and void excluded; see `judge`.

    Keys are those of all tasks of the frames together (`edge_mtl.tasks.scoped`), whichever of them are in `specs`: a model
    for one task and one for many have the same names for the same measure. Of a mixture, they are `mean_of_sources`.

    Raises:
        BuildError: model and frames have no task in common, or one of other classes.
    """
    if isinstance(frames, MixtureFrames):
        return mean_of_sources(evaluate_by_source(predict, frames, specs, size=size, batch=batch, canonical=canonical))
    found = _evaluated(predict, frames, specs, size=size, batch=batch, canonical=canonical, full=False, progress=progress)
    return found.measures


def evaluate_fully(
    predict: Predictor | ResultPredictor,
    frames: FrameSource,
    specs: Specs,
    *,
    size: tuple[int, int],
    batch: int = 4,
    canonical: bool = True,
    answers_for: Intrinsics | None = None,
    progress: Callable[[int], None] | None = None,
    on_frame: Callable[[Judged], None] | None = None,
) -> Evaluation:
    """As `evaluate`, with all that the field reports in `details`; `answers_for` as of `judge`. Raises BuildError.

    Args:
        on_frame: called with every frame after it was measured, for what metrics do not say.
    """
    seeing: dict[str, Any] = {"size": size, "batch": batch, "canonical": canonical, "answers_for": answers_for}
    seeing["on_frame"] = on_frame
    if not isinstance(frames, MixtureFrames):
        return _evaluated(predict, frames, specs, **seeing, full=True, progress=progress)
    found = {
        name: _evaluated(predict, one, own, **seeing, full=True, progress=progress)
        for name, one in frames.sources.items()
        if (own := {task: spec for task, spec in specs.items() if task in one.own})
    }
    measures = mean_of_sources({name: one.measures for name, one in found.items()})
    guesses = tuple(chain.from_iterable(one.near_chance for one in found.values()))
    return Evaluation(measures, {}, sum(one.frames for one in found.values()), guesses, found)


def _evaluated(
    predict: Predictor | ResultPredictor,
    frames: FrameSource,
    specs: Specs,
    *,
    size: tuple[int, int],
    batch: int,
    canonical: bool,
    full: bool,
    answers_for: Intrinsics | None = None,
    progress: Callable[[int], None] | None,
    on_frame: Callable[[Judged], None] | None = None,
) -> Evaluation:
    known = {name: spec for name, spec in specs.items() if name in frames.tasks}
    _check_same_tasks(known, specs, frames.tasks)
    metrics = TaskMetrics({**frames.tasks, **known}, full=full)
    every = judge(predict, frames, known, size=size, batch=batch, canonical=canonical, answers_for=answers_for)
    for number, judged in enumerate(every):
        metrics.update(judged.predicted, judged.truths)
        if on_frame is not None:
            on_frame(judged)
        if progress is not None:
            progress(number + 1)
    own = {scoped(metrics.specs, spec, measure.name) for spec in known.values() for measure in kind_of(spec).measures_of(spec)}
    measures = {key: value for key, value in metrics.compute().items() if key in own}
    return Evaluation(measures, metrics.details(), len(frames), metrics.near_chance())


def _check_same_tasks(known: Specs, specs: Specs, frames: Specs) -> None:
    """Raises BuildError: nothing can be measured, or a task of the same name means something else to model and frames."""
    if not known:
        raise BuildError(
            f"the model predicts {', '.join(specs)}, the frames have truths of {', '.join(frames)}: nothing can be measured. "
            "Name the folder that has them: --root DIR"
        )
    for name, spec in known.items():
        what = unlike(spec, frames[name])
        if what is not None:
            raise BuildError(
                f"{name} has other {what} in the model than in the frames. Measure on the data set that it was trained on: "
                "--root DIR, or train again"
            )


def unlike(spec: TaskSpec, other: TaskSpec) -> str | None:
    """What of two tasks of one name differs so that truths of one are none of the other's; None where they serve both."""
    if spec.kind != other.kind:
        return f"kinds ({spec.kind} and {other.kind})"
    ours, theirs = (getattr(one, "classes", ()) for one in (spec, other))
    if ours == theirs:
        return None
    differ = next((f"{a!r} and {b!r}" for a, b in zip(ours, theirs, strict=False) if a != b), f"{len(ours)} and {len(theirs)}")
    return f"classes ({differ})"


def evaluate_by_source(
    predict: Predictor,
    frames: MixtureFrames,
    specs: Specs,
    *,
    size: tuple[int, int],
    batch: int = 4,
    canonical: bool = True,
    showing: Callable[[str], AbstractContextManager[None]] | None = None,
) -> dict[str, dict[str, float]]:
    """As `evaluate`, of each source of a mixture that labels any of the tasks, and of those that it labels.

    Args:
        showing: what a source is measured within, for a network that differs by source.
    """
    found = {}
    for name, one in frames.sources.items():
        labelled = {task: spec for task, spec in specs.items() if task in one.own}
        if not labelled:
            continue
        with showing(name) if showing is not None else nullcontext():
            found[name] = evaluate(predict, one, labelled, size=size, batch=batch, canonical=canonical)
    return found


def mean_of_sources(by_source: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Every measure as the mean over the sources that have it, whatever their ratios and numbers of frames."""
    keys = dict.fromkeys(key for values in by_source.values() for key in values)
    known = {key: [values[key] for values in by_source.values() if np.isfinite(values.get(key, np.nan))] for key in keys}
    return {key: float(np.mean(values)) if values else float("nan") for key, values in known.items()}
