"""How good labels are: a confusion matrix, mean IoU, pixel accuracy, and the calibration error of the confidence.

Definitions: LibMTL's NYUv2 example (Lin & Zhang 2023, JMLR 24(209)), equal to torchmetrics where it has them. They differ
from LibMTL's only in what it leaves undefined: a class neither predicted nor present is left out of the mean IoU (there the
mean is NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge_mtl.tasks.labels import LabelMap

__all__ = ["CalibrationCurve", "LabelMetric", "resampled"]

Array = np.ndarray
_BINS = 15
_KAPPA = 0.05
"""Agreement beyond chance that is none: 0 is chance, 1 is perfect."""


class LabelMetric:
    """Global confusion matrix; rows are true classes, columns predicted ones.

    Args:
        classes: how many there are.
        ignored: classes that the mean IoU leaves out.
        names: of the classes, for `details`; by default their numbers.
    """

    def __init__(self, *, classes: int, ignored: Sequence[int] = (), names: Sequence[str] = ()) -> None:
        self.classes, self._ignored = classes, list(ignored)
        self._names = tuple(names) or tuple(map(str, range(classes)))
        self._counts = np.zeros((classes, classes + 1), np.int64)
        self._curve = CalibrationCurve()

    def update(self, result: LabelMap, truth: Array) -> None:
        """Add a result and its truth, (..., H, W) integer class indices; 255 is void."""
        self.add(result.labels, truth)
        if result.confidence_maker is not None:
            self._curve.add(result.confidence_maker(), result.labels, truth, classes=self.classes)

    def add(self, predicted: Array, target: Array) -> None:
        """Add labels of equal shape.

        Args:
            predicted: integer class indices; anything outside 0..classes-1 counts as a wrong answer.
            target: integer class indices; pixels outside 0..classes-1 (void: 255 or -1) do not count.
        """
        same_shape(predicted, target)
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
        hit, union = self.statistics()[:2]
        return np.divide(hit, union, out=np.full(self.classes, np.nan), where=union > 0)

    def compute(self) -> dict[str, float]:
        """miou (mean over classes that occur, but for ignored ones) and pixel_accuracy, both 0..1."""
        iou = self.class_iou()
        iou[self._ignored] = np.nan
        seen = ~np.isnan(iou)
        hits, total = int(np.trace(self._counts[:, : self.classes])), int(self._counts.sum())
        return {
            "miou": float(iou[seen].mean()) if seen.any() else float("nan"),
            "pixel_accuracy": hits / total if total else float("nan"),
        }

    def near_chance(self) -> bool:
        """Whether classes agree with the truth no more than by chance, and less than one class for all pixels would.

        Source: Cohen 1960, "A Coefficient of Agreement for Nominal Scales": kappa compares with the agreement of independent
        answers of the same frequencies.
        """
        total = int(self._counts.sum())
        if not total:
            return False
        true, guessed = self._counts.sum(axis=1) / total, self._counts[:, : self.classes].sum(axis=0) / total
        right, by_chance = float(np.trace(self._counts[:, : self.classes])) / total, float(true @ guessed)
        return right < float(true.max()) and right - by_chance <= _KAPPA * (1.0 - by_chance)

    def statistics(self) -> tuple[Array, ...]:
        """Of every class, the pixels that are right and those that truth or answer give to it: intersection and union.

        (C,) int64 each: they are kept for every frame, where confusion matrices of 255 classes would take half a megabyte.
        """
        hit = np.diag(self._counts).copy()
        return hit, self._counts.sum(axis=1) + self._counts[:, : self.classes].sum(axis=0) - hit

    def details(self) -> dict[str, Any]:
        """class_iou by name, of classes that occur or are predicted; ece where there was a confidence."""
        if not self._counts.any():
            return {}
        found: dict[str, Any] = {
            "class_iou": {
                name: float(value) for name, value in zip(self._names, self.class_iou(), strict=True) if np.isfinite(value)
            }
        }
        error = self._curve.error()
        return found if error is None else found | {"ece": error}


def resampled(statistics: Sequence[tuple[Array, ...]], weights: Array, ignored: Sequence[int]) -> Array:
    """(R,) mean IoU of R draws of F frames: `statistics` begin as `LabelMetric.statistics` does, `weights` (R, F)."""
    hits, unions = (np.stack([counts[part] for counts in statistics]).astype(np.float64) for part in (0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        hit, union = weights @ hits, weights @ unions
        iou = np.where(union > 0, hit / union, np.nan)
        iou[:, list(ignored)] = np.nan
        seen = np.isfinite(iou)
        mean: Array = np.where(seen, iou, 0).sum(axis=1) / seen.sum(axis=1)
    return mean


class CalibrationCurve:
    """How often answers of each confidence are right, in bins of equal width."""

    def __init__(self) -> None:
        self._count, self._confidence, self._right = np.zeros(_BINS), np.zeros(_BINS), np.zeros(_BINS)

    def add(self, confidence: Array, predicted: Array, target: Array, *, classes: int) -> None:
        """Add a frame: (H, W) float32 in 0..1, (H, W) integer classes, (H, W) true ones; void does not count."""
        known = target < classes
        sure, right = confidence[known], (predicted == target)[known]
        where = np.clip((sure * _BINS).astype(np.intp), 0, _BINS - 1)
        self._count += np.bincount(where, minlength=_BINS)
        self._confidence += np.bincount(where, sure, _BINS)
        self._right += np.bincount(where, right, _BINS)

    def sums(self) -> Array:
        """(3, bins): pixels, their confidence added up, and how many are right; those of several frames add up."""
        return np.stack([self._count, self._confidence, self._right])

    def error(self) -> float | None:
        """Expected calibration error of the chosen class: the mean gap between confidence and share of right answers.

        Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
        """
        total = self._count.sum()
        return float(np.abs(self._confidence - self._right).sum() / total) if total else None


def same_shape(predicted: Array, target: Array) -> None:
    """Raises ValueError where two arrays differ in shape."""
    if np.shape(predicted) != np.shape(target):
        raise ValueError(f"predicted and target should have one shape; found {np.shape(predicted)} and {np.shape(target)}")
