"""What one graph scores on labelled frames, kept frame by frame, so that two graphs can be compared with an error bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_mtl.evaluation.metrics import TaskMetrics, agreement, mean_agreement
from edge_mtl.tasks import BudgetItem, Measure, Specs, TaskSpec, kind_of, scoped
from edge_mtl.tasks.finishing import Answer

__all__ = ["Drop", "FrameScore", "Limit", "Score", "Scorer", "drops", "frame_differences", "frame_losses", "limits"]

Array = np.ndarray

_RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget of one task.

    Attributes:
        key: of the budget, as `edge_mtl.tasks.scoped` gives it: "miou", "lane.miou".
        measure_key: of its measure in reports.
        spec, item, measure: what they are.
    """

    key: str
    measure_key: str
    spec: TaskSpec
    item: BudgetItem
    measure: Measure


def limits(specs: Specs, *, labelled: bool) -> tuple[Limit, ...]:
    """The budgets of all tasks: of accuracy against truth, or of agreement with FP32."""
    found = []
    for spec in specs.values():
        kind = kind_of(spec)
        measures = {measure.name: measure for measure in (*kind.measures_of(spec), *kind.agreements)}
        for item in kind.budgets_of(spec):
            if item.labelled == labelled:
                keys = scoped(specs, spec, item.name), scoped(specs, spec, item.measure)
                found.append(Limit(*keys, spec, item, measures[item.measure]))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame.

    Attributes:
        name: of the frame.
        statistics: by task, what its metric keeps of this frame; only of tasks with truth here.
        agreement: with the reference graph, by key, see `edge_mtl.evaluation.metrics.agreement`.
    """

    name: str
    statistics: Mapping[str, Any]
    agreement: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Score:
    """What one graph scored.

    Attributes:
        accuracy: measures by key, see `edge_mtl.tasks.measure_names`; empty without labels.
        agreement: with the reference graph by key, means over frames.
        details: what metrics say besides: "class_iou" by class, "ece" (0..1) of the confidence.
        bad_values: values that cannot be used: not finite, or depths not positive.
        frames: every frame, in order.
        specs: the tasks.
        near_chance: of tasks whose answers are no better than guesses on these frames, sentences.
    """

    accuracy: Mapping[str, float]
    agreement: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
    bad_values: int = 0
    frames: tuple[FrameScore, ...] = ()
    specs: Specs = field(default_factory=dict)
    near_chance: tuple[str, ...] = ()


class Scorer:
    """Collects one graph's answers. Its maps may live in buffers that the next run overwrites: nothing is kept of them."""

    def __init__(self, specs: Specs) -> None:
        self._specs = specs
        self._metrics = TaskMetrics(specs)
        self._frames: list[FrameScore] = []
        self._bad = 0

    def update(self, name: str, found: Answer, truths: Mapping[str, Any], reference: Answer) -> None:
        """Add a frame.

        Args:
            found: the graph's answer.
            truths: by task, as in `edge_mtl.evaluation.labelled_frames.LabelledFrame`; may be empty.
            reference: the answer of the graph that agreement refers to.
        """
        self._metrics.update(found.results, truths)
        self._bad += found.bad_values
        single = TaskMetrics(self._specs)
        single.update(found.results, truths)
        statistics = {task: metric.statistics() for task, metric in single.by_task.items() if truths.get(task) is not None}
        self._frames.append(FrameScore(name, statistics, agreement(self._specs, found.results, reference.results)))

    def score(self) -> Score:
        """The result so far."""
        accuracy = {name: value for name, value in self._metrics.compute().items() if np.isfinite(value)}
        return Score(
            accuracy=accuracy,
            agreement=mean_agreement([frame.agreement for frame in self._frames]),
            details=self._metrics.details(),
            bad_values=self._bad,
            frames=tuple(self._frames),
            specs=self._specs,
            near_chance=self._metrics.near_chance(),
        )


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse one graph is than another on the same frames.

    Attributes:
        value: in the measure's unit; below 0 it is better.
        low, high: 95 % interval of that, from drawing the frames again with replacement.
    """

    value: float
    low: float
    high: float


def drops(reference: Score, candidate: Score, *, seed: int = 0) -> dict[str, Drop]:
    """The losses of `candidate` by key of the budget (see `limits`); tasks without truth are left out.

    Both scores must be of the same frames, so that what a frame does to both cancels. Source of the interval: Efron &
    Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    count = len(reference.frames)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), _RESAMPLES) if count else np.zeros((0, 0))
    weights = np.vstack([np.ones(count), drawn])
    before, after = (_resampled(reference.specs, score.frames, weights) for score in (reference, candidate))
    found = {}
    for limit in limits(reference.specs, labelled=True):
        key, sign = limit.measure_key, -1.0 if limit.measure.higher_is_better else 1.0
        if key in reference.accuracy and key in candidate.accuracy:
            low, high = np.nanpercentile(sign * (after[key][1:] - before[key][1:]), _PERCENTILES)
            value = limit.measure.loss(reference.accuracy[key], candidate.accuracy[key])
            found[limit.key] = Drop(value, float(low), float(high))
    return found


def frame_losses(specs: Specs, before: FrameScore, after: FrameScore) -> dict[str, float]:
    """What one frame loses, by key of the budget: against truth, else in agreement with FP32."""
    one = np.ones((1, 1))
    old, new = (_resampled(specs, [frame], one) for frame in (before, after))
    found = {}
    for limit in limits(specs, labelled=True):
        if limit.measure_key in old and limit.measure_key in new:
            loss = limit.measure.loss(float(old[limit.measure_key][0]), float(new[limit.measure_key][0]))
            if np.isfinite(loss):
                found[limit.key] = loss
    return found or frame_differences(specs, after)


def frame_differences(specs: Specs, frame: FrameScore) -> dict[str, float]:
    """How far one frame is from FP32's answers, by key of the budget."""
    return {
        limit.key: 1.0 - value if limit.measure.higher_is_better else value
        for limit in limits(specs, labelled=False)
        if (value := frame.agreement.get(limit.measure_key)) is not None
    }


def _resampled(specs: Specs, frames: Sequence[FrameScore], weights: Array) -> dict[str, Array]:
    """Measures of several draws of frames, (R,) each; `weights` (R, F) says how often each frame was drawn."""
    found: dict[str, Array] = {}
    for task, spec in specs.items():
        labelled = [index for index, frame in enumerate(frames) if task in frame.statistics]
        if labelled:
            values = kind_of(spec).resample(spec, [frames[index].statistics[task] for index in labelled], weights[:, labelled])
            found |= {scoped(specs, spec, measure): value for measure, value in values.items()}
    return found
