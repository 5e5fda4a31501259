"""What one graph scores on labelled frames, kept frame by frame, so that two graphs can be compared with an error bar.

Knows maps, truths and metrics; knows nothing about files, graphs or budgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_mtl.evaluation.metrics import Maps, MultiTaskMetrics, agreement
from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION
from edge_mtl.tasks.postprocess import Maps as FinishedMaps

__all__ = ["DROPS", "CalibrationCurve", "Drop", "FrameScore", "Score", "Scorer", "drops"]

Array = np.ndarray

DROPS: Mapping[str, tuple[str, float]] = {
    "miou": ("miou", -1.0),
    "rel": ("depth_rel", 1.0),
    "normal": ("normal_mean_deg", 1.0),
}
"""By name of a budget: the metric it is about, and the sign that makes a rise of the metric a loss (-1: a fall is)."""

_BINS = 15
_RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame.

    Attributes:
        name: of the frame.
        confusion: (classes, classes) int64, rows are true classes; None without labels.
        wrong_elsewhere: (classes,) int64, pixels of each true class for which no class was given.
        depth: (sum of |error| / truth, pixels).
        normals: (sum of angles in degrees, pixels).
        agreement: with the reference graph, by name, see `edge_mtl.evaluation.metrics.Agreement`.
    """

    name: str
    confusion: Array | None
    wrong_elsewhere: Array | None
    depth: tuple[float, int]
    normals: tuple[float, int]
    agreement: Mapping[str, float]

    def metrics(self) -> dict[str, float]:
        """miou, depth_rel and normal_mean_deg of this frame alone; what it cannot say is left out."""
        found = _totals([self], np.ones((1, 1)))
        return {name: float(values[0]) for name, values in found.items() if np.isfinite(values[0])}


@dataclass(frozen=True, slots=True)
class Score:
    """What one graph scored.

    Attributes:
        accuracy: metrics by name, see `edge_mtl.evaluation.metrics`; empty without labels.
        agreement: with the reference graph by name, means over frames.
        class_iou: by index of the class; classes that neither occur nor are predicted are left out.
        ece: calibration error of the confidence, 0..1; None where the graph ends in labels or there is no truth.
        bad_values: values that were not finite, or depths not positive.
        frames: every frame, in order.
    """

    accuracy: Mapping[str, float]
    agreement: Mapping[str, float]
    class_iou: Mapping[int, float] = field(default_factory=dict)
    ece: float | None = None
    bad_values: int = 0
    frames: tuple[FrameScore, ...] = ()


class CalibrationCurve:
    """How often answers of each confidence are right, in bins of equal width."""

    def __init__(self) -> None:
        self._count, self._confidence, self._right = np.zeros(_BINS), np.zeros(_BINS), np.zeros(_BINS)

    def update(self, confidence: Array, predicted: Array, target: Array, *, classes: int) -> None:
        """Add a frame: (H, W) float32 in 0..1, (H, W) integer classes, (H, W) true ones; void does not count."""
        known = target < classes
        sure, right = confidence[known], (predicted == target)[known]
        where = np.clip((sure * _BINS).astype(np.intp), 0, _BINS - 1)
        self._count += np.bincount(where, minlength=_BINS)
        self._confidence += np.bincount(where, sure, _BINS)
        self._right += np.bincount(where, right, _BINS)

    def error(self) -> float | None:
        """Expected calibration error of the chosen class: the mean gap between confidence and share of right answers.

        Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
        """
        total = self._count.sum()
        return float(np.abs(self._confidence - self._right).sum() / total) if total else None


class Scorer:
    """Collects one graph's answers. Its maps may live in buffers that the next run overwrites: nothing is kept of them."""

    def __init__(self, tasks: Sequence[str], *, classes: int) -> None:
        self._metrics = MultiTaskMetrics(tasks, classes=classes)
        self._tasks, self._classes = tuple(tasks), classes
        self._curve = CalibrationCurve()
        self._frames: list[FrameScore] = []
        self._bad = 0

    def update(self, name: str, found: FinishedMaps, truth: Mapping[str, Array], reference: Maps) -> None:
        """Add a frame.

        Args:
            found: the graph's maps.
            truth: maps by task, as in `edge_mtl.evaluation.labelled_frames.LabelledFrame`; may be empty.
            reference: the maps of the graph that agreement refers to.
        """
        predicted = {SEGMENTATION: found.segmentation, DEPTH: found.depth, NORMALS: found.normals}
        self._metrics.update(predicted, truth)
        self._bad += found.bad_values
        label = truth.get(SEGMENTATION)
        if found.confidence is not None and found.segmentation is not None and label is not None:
            self._curve.update(found.confidence(), found.segmentation, label, classes=self._classes)
        self._frames.append(self._frame(name, predicted, truth, agreement(found, reference).as_dict()))

    def score(self) -> Score:
        """The result so far."""
        segmentation = self._metrics.segmentation
        iou = segmentation.class_iou() if segmentation is not None else np.empty(0)
        accuracy = {name: value for name, value in self._metrics.compute().items() if np.isfinite(value)}
        return Score(
            accuracy=accuracy,
            agreement=_means([frame.agreement for frame in self._frames]),
            class_iou={index: float(value) for index, value in enumerate(iou) if np.isfinite(value) and accuracy},
            ece=self._curve.error(),
            bad_values=self._bad,
            frames=tuple(self._frames),
        )

    def _frame(
        self, name: str, predicted: Mapping[str, Array | None], truth: Mapping[str, Array], agreed: Mapping[str, float]
    ) -> FrameScore:
        single = MultiTaskMetrics(self._tasks, classes=self._classes)
        single.update(predicted, truth)
        values = single.compute()
        confusion = elsewhere = None
        if single.segmentation is not None and SEGMENTATION in truth:
            confusion = single.segmentation.confusion
            present = truth[SEGMENTATION]
            elsewhere = np.bincount(present[present < self._classes], minlength=self._classes) - confusion.sum(axis=1)
        depth, normals = predicted.get(DEPTH), predicted.get(NORMALS)
        depths = angles = 0
        if depth is not None and DEPTH in truth:
            depths = int((np.isfinite(depth) & (truth[DEPTH] > 0)).sum())
        if normals is not None and NORMALS in truth:
            angles = int((np.isfinite(normals).all(axis=2) & truth[NORMALS].any(axis=2)).sum())
        return FrameScore(
            name=name,
            confusion=confusion,
            wrong_elsewhere=elsewhere,
            depth=(values["depth_rel"] * depths if depths else 0.0, depths),
            normals=(values["normal_mean_deg"] * angles if angles else 0.0, angles),
            agreement=agreed,
        )


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse one graph is than another on the same frames.

    Attributes:
        value: in the metric's unit; below 0 it is better.
        low, high: 95 % interval of that, from drawing the frames again with replacement.
    """

    value: float
    low: float
    high: float


def drops(reference: Score, candidate: Score, *, seed: int = 0) -> dict[str, Drop]:
    """The losses of `candidate` by name of the budget (see `DROPS`); heads without truth are left out.

    Both scores must be of the same frames, so that what a frame does to both cancels. Source of the interval: Efron &
    Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    count = len(reference.frames)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), _RESAMPLES) if count else np.zeros((0, 0))
    weights = np.vstack([np.ones(count), drawn])
    before, after = _totals(reference.frames, weights), _totals(candidate.frames, weights)
    found = {}
    for name, (metric, sign) in DROPS.items():
        if metric in reference.accuracy and metric in candidate.accuracy:
            loss = sign * (after[metric][1:] - before[metric][1:])
            low, high = np.nanpercentile(loss, _PERCENTILES)
            found[name] = Drop(sign * (candidate.accuracy[metric] - reference.accuracy[metric]), float(low), float(high))
    return found


def _totals(frames: Sequence[FrameScore], weights: Array) -> dict[str, Array]:
    """Metrics of several draws of frames, (R,) each; `weights` (R, F) says how often each frame was drawn."""
    found: dict[str, Array] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        labelled = [index for index, frame in enumerate(frames) if frame.confusion is not None]
        if labelled:
            counts = np.stack([frames[index].confusion for index in labelled]).astype(np.float64)  # type: ignore[misc]
            lost = np.stack([frames[index].wrong_elsewhere for index in labelled]).astype(np.float64)  # type: ignore[misc]
            drawn = np.tensordot(weights[:, labelled], counts, axes=1)
            hit = np.diagonal(drawn, axis1=1, axis2=2)
            union = drawn.sum(axis=1) + drawn.sum(axis=2) + weights[:, labelled] @ lost - hit
            iou = np.where(union > 0, hit / union, np.nan)
            seen = np.isfinite(iou)
            found["miou"] = np.where(seen, iou, 0).sum(axis=1) / seen.sum(axis=1)
        for metric, pairs in (("depth_rel", [f.depth for f in frames]), ("normal_mean_deg", [f.normals for f in frames])):
            sums = weights @ np.array(pairs, np.float64).reshape(-1, 2)
            found[metric] = sums[:, 0] / sums[:, 1]
    return found


def _means(entries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    known: dict[str, list[float]] = {}
    for entry in entries:
        for name, value in entry.items():
            if np.isfinite(value):
                known.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in known.items()}
