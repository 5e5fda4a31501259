"""Streaming metrics of the three heads in NumPy, and how far two predictions agree.

Knows maps and ground truth as arrays of any leading shape, for example (H, W) or (N, H, W); knows nothing about
networks, datasets or files. Every `compute()` returns plain floating point under names that are unique across heads, so that
the results of several heads merge into one mapping (`Manifest.accuracy`). A head that saw no valid pixel reports NaN.

Definitions: LibMTL's NYUv2 example (Lin & Zhang 2023, JMLR 24(209)), after Eigen & Fergus 2015; equal to torchmetrics
where it has them. They differ from LibMTL's in what it leaves undefined or to rounding only: a class neither predicted nor
present is left out of the mean IoU (there the mean is NaN), a pixel without a finite prediction is counted in `missing`
(there everything becomes NaN), true normals are brought to unit length, angles near 0 are exact (there an arc cosine in
single precision), and a true normal counts unless it is 0 (there: unless its components add up to 0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from edge_mtl.tasks import DEPTH, NORMALS, NYU13_CLASSES, SEGMENTATION, TASK_NAMES

__all__ = [
    "HIGHER_IS_BETTER",
    "Agreement",
    "DepthMetrics",
    "Maps",
    "MultiTaskMetrics",
    "NormalMetrics",
    "SegmentationMetrics",
    "agreement",
    "angles_deg",
]

Array = np.ndarray

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "miou": True,
    "pixel_accuracy": True,
    "depth_abs_m": False,
    "depth_rel": False,
    "depth_rmse_m": False,
    "depth_delta1": True,
    "normal_mean_deg": False,
    "normal_median_deg": False,
    "normal_within_11_25": True,
    "normal_within_22_5": True,
    "normal_within_30": True,
}
"""Every accuracy metric and its direction. Shares (accuracy, IoU, delta, within) lie in 0..1."""

_ANGLE_STEPS = 2**32 - 1
"""Angles of 0..180 degrees are kept as 32-bit integers: steps of 4e-8 degrees."""


class SegmentationMetrics:
    """Global confusion matrix; rows are true classes, columns predicted ones."""

    def __init__(self, *, classes: int = len(NYU13_CLASSES)) -> None:
        self.classes = classes
        self._counts = np.zeros((classes, classes + 1), np.int64)

    def update(self, predicted: Array, target: Array) -> None:
        """Add labels of equal shape.

        Args:
            predicted: integer class indices; anything outside 0..classes-1 counts as a wrong answer.
            target: integer class indices; pixels outside 0..classes-1 (void: 255 or -1) do not count.
        """
        _same_shape(predicted, target)
        truth = np.asarray(target).astype(np.int64).ravel()
        guess = np.asarray(predicted).astype(np.int64).ravel()
        valid = (truth >= 0) & (truth < self.classes)
        truth, guess = truth[valid], guess[valid]
        guess = np.where((guess >= 0) & (guess < self.classes), guess, self.classes)
        width = self.classes + 1
        self._counts += np.bincount(truth * width + guess, minlength=self._counts.size).reshape(self._counts.shape)

    @property
    def confusion(self) -> Array:
        """(classes, classes) int64, a copy."""
        return self._counts[:, : self.classes].copy()

    def class_iou(self) -> Array:
        """(classes,) float64 intersection over union; NaN for a class neither predicted nor present."""
        hit = np.diag(self._counts).astype(np.float64)
        union = self._counts.sum(axis=1) + self._counts[:, : self.classes].sum(axis=0) - hit
        return np.divide(hit, union, out=np.full(self.classes, np.nan), where=union > 0)

    def compute(self) -> dict[str, float]:
        """miou (mean over classes that occur) and pixel_accuracy, both 0..1."""
        iou = self.class_iou()
        seen = ~np.isnan(iou)
        hits = int(np.trace(self._counts[:, : self.classes]))
        return {
            "miou": float(iou[seen].mean()) if seen.any() else float("nan"),
            "pixel_accuracy": _ratio(hits, int(self._counts.sum())),
        }


class DepthMetrics:
    """Errors of metric depth as global means over valid pixels (not means of per-image means)."""

    def __init__(self) -> None:
        self._sums = np.zeros(4, np.float64)
        self._count = 0
        self.missing = 0
        """Valid target pixels for which nothing finite was predicted; excluded from the errors."""

    def update(self, predicted: Array, target: Array, valid: Array | None = None) -> None:
        """Add depth maps of equal shape in metres.

        Args:
            predicted: depth; NaN or Inf where unknown. A depth of 0 or below is an answer, and a wrong one.
            target: true depth; 0, negative, NaN or Inf where invalid.
            valid: bool, which pixels count besides (default: all).
        """
        _same_shape(predicted, target)
        guess, truth = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
        known = np.isfinite(truth) & (truth > 0)
        if valid is not None:
            known &= np.asarray(valid, bool)
        answered = known & np.isfinite(guess)
        self.missing += int(known.sum()) - int(answered.sum())
        guess, truth = guess[answered], truth[answered]
        error = np.abs(guess - truth)
        near = (guess < 1.25 * truth) & (truth < 1.25 * guess)
        self._sums += (error.sum(), (error / truth).sum(), (error * error).sum(), near.sum())
        self._count += guess.size

    def compute(self) -> dict[str, float]:
        """depth_abs_m, depth_rel (share of the true depth), depth_rmse_m, depth_delta1 (share within a factor 1.25)."""
        absolute, relative, square, near = (_ratio(total, self._count) for total in self._sums)
        return {
            "depth_abs_m": absolute,
            "depth_rel": relative,
            "depth_rmse_m": float(np.sqrt(square)),
            "depth_delta1": near,
        }


class NormalMetrics:
    """Angles between predicted and true normals. All are kept, four bytes a pixel, so that the median is exact."""

    def __init__(self) -> None:
        self._angles: list[Array] = []
        self._counts = np.zeros(1 << 16, np.int64)
        self._within = np.zeros(3, np.int64)
        self._sum_deg = 0.0
        self.missing = 0
        """Valid target pixels without a usable predicted normal; excluded from the angles."""

    def update(self, predicted: Array, target: Array, valid: Array | None = None) -> None:
        """Add normals of equal shape (..., 3); lengths do not matter.

        Args:
            predicted: normals; NaN or zero where unknown.
            target: true normals; zero or NaN where invalid.
            valid: (...) bool, which pixels count besides (default: all).
        """
        _same_shape(predicted, target)
        known = _usable(target)
        if valid is not None:
            known &= np.asarray(valid, bool)
        answered = known & _usable(predicted)
        self.missing += int(known.sum()) - int(answered.sum())
        angles = angles_deg(np.asarray(predicted)[answered], np.asarray(target)[answered])
        self._sum_deg += float(angles.sum())
        self._within += [int((angles < limit).sum()) for limit in (11.25, 22.5, 30.0)]
        steps = np.round(angles * (_ANGLE_STEPS / 180.0)).astype(np.uint32)
        self._angles.append(steps)
        self._counts += np.bincount(steps >> 16, minlength=self._counts.size)

    def compute(self) -> dict[str, float]:
        """normal_mean_deg, normal_median_deg, normal_within_11_25, normal_within_22_5, normal_within_30."""
        count = int(self._counts.sum())
        within = [_ratio(int(number), count) for number in self._within]
        return {
            "normal_mean_deg": _ratio(self._sum_deg, count),
            "normal_median_deg": self._median_deg(count),
            "normal_within_11_25": within[0],
            "normal_within_22_5": within[1],
            "normal_within_30": within[2],
        }

    def _median_deg(self, count: int) -> float:
        if count == 0:
            return float("nan")
        middle = (self._ranked((count - 1) // 2) + self._ranked(count // 2)) / 2
        return middle * (180.0 / _ANGLE_STEPS)

    def _ranked(self, rank: int) -> float:
        """The angle, in steps, that `rank` others precede; sorts only those that share its upper 16 bits."""
        up_to = np.cumsum(self._counts)
        upper = int(np.searchsorted(up_to, rank, side="right"))
        alike = np.concatenate([steps[(steps >> 16) == upper] for steps in self._angles])
        return float(np.sort(alike)[rank - (up_to[upper] - self._counts[upper])])


class MultiTaskMetrics:
    """The metrics of several heads together; maps are passed by task name and missing ones are skipped."""

    def __init__(self, tasks: Iterable[str] = TASK_NAMES, *, classes: int = len(NYU13_CLASSES)) -> None:
        named = tuple(tasks)
        self.segmentation = SegmentationMetrics(classes=classes) if SEGMENTATION in named else None
        self.depth = DepthMetrics() if DEPTH in named else None
        self.normals = NormalMetrics() if NORMALS in named else None

    def update(self, predicted: Mapping[str, Array | None], target: Mapping[str, Array | None]) -> None:
        """Add one frame or batch: keys segmentation (..., H, W), depth (..., H, W), normals (..., H, W, 3)."""
        for task, metrics in ((SEGMENTATION, self.segmentation), (DEPTH, self.depth), (NORMALS, self.normals)):
            guess, truth = predicted.get(task), target.get(task)
            if metrics is not None and guess is not None and truth is not None:
                metrics.update(guess, truth)

    def compute(self) -> dict[str, float]:
        """All metrics of all heads in one mapping."""
        result: dict[str, float] = {}
        for metrics in (self.segmentation, self.depth, self.normals):
            if metrics is not None:
                result.update(metrics.compute())
        return result


class Maps(Protocol):
    """What `agreement` reads: a Prediction, or anything with its three maps."""

    @property
    def segmentation(self) -> Array | None: ...
    @property
    def depth(self) -> Array | None: ...
    @property
    def normals(self) -> Array | None: ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two predictions agree; None for a head that either of them lacks.

    Attributes:
        argmax_agreement: share of pixels with the same class, 0..1.
        depth_relative_difference: mean |a - b| / b over pixels both know.
        normal_angle_deg: mean angle between the normals, degrees.
    """

    argmax_agreement: float | None
    depth_relative_difference: float | None
    normal_angle_deg: float | None

    def as_dict(self) -> dict[str, float]:
        """The heads both predictions have."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def agreement(predicted: Maps, reference: Maps) -> Agreement:
    """Compare two predictions of the same frame; `reference` is what relative differences are relative to."""
    same = relative = angle = None
    if predicted.segmentation is not None and reference.segmentation is not None:
        _same_shape(predicted.segmentation, reference.segmentation)
        same = float((predicted.segmentation == reference.segmentation).mean())
    if predicted.depth is not None and reference.depth is not None:
        depth = DepthMetrics()
        depth.update(predicted.depth, reference.depth)
        relative = depth.compute()["depth_rel"]
    if predicted.normals is not None and reference.normals is not None:
        normals = NormalMetrics()
        normals.update(predicted.normals, reference.normals)
        angle = normals.compute()["normal_mean_deg"]
    return Agreement(same, relative, angle)


def angles_deg(first: Array, second: Array) -> Array:
    """Angles between two fields of vectors (..., 3), in degrees, 0..180, (...) float64; lengths do not matter.

    Uses 2 atan2(|a - b|, |a + b|) of the unit vectors, which keeps its precision near 0 and 180 degrees where the
    arc cosine loses it (Kahan 2006, "How futile are mindless assessments of roundoff").
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.degrees(2.0 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)))


def _usable(normals: Array) -> Array:
    square = np.square(np.asarray(normals, np.float64)).sum(axis=-1)
    return np.isfinite(square) & (square > 1e-12)


def _same_shape(predicted: Array, target: Array) -> None:
    if np.shape(predicted) != np.shape(target):
        raise ValueError(f"predicted and target should have one shape; found {np.shape(predicted)} and {np.shape(target)}")


def _ratio(total: float, count: int) -> float:
    return float(total) / count if count else float("nan")
