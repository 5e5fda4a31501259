"""How good the labels of lines are: their F-measure, where a pixel is right that is within a few pixels of a true one.

Thin classes need it: a line of four pixels that is found two pixels to the left has an IoU of a third. Definition: precision is
the share of the predicted pixels of a class within the tolerance of a true one, recall that of the true ones within it of a
predicted one, F = 2 P R / (P + R). The tolerance is a Euclidean distance, a disc, as in the evaluation of lane marks of BDD100K
(Yu et al. 2020, arXiv:1805.04687; after the contours of Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology
for Video Object Segmentation").

`line_f` adds up pixels over all frames, as mean IoU does, and takes F of the sums, then the mean over classes that occur.
BDD100K takes the mean over images, in which an image without a class, where none was predicted, counts as 1. There a class of
one image in twenty has an F of 0.95 before anything was found, and may lose all it has for 0.05. What BDD100K reports is in the
details of `FullLineMetric`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_mtl.tasks.label_metric import LabelMetric, same_shape

if TYPE_CHECKING:
    from edge_mtl.tasks.labels import LabelMap

__all__ = ["FullLineMetric", "LineMetric", "f_measure", "image_f", "line_counts", "mean_f", "resampled_f"]

Array = np.ndarray

_BDD_PX = (1, 2, 5)
"""Tolerances of BDD100K, at 1280x720."""


class LineMetric(LabelMetric):
    """As `LabelMetric`, with line_f.

    Args:
        tolerance_px: how far a pixel may be from a true one, in pixels of the maps that are compared.
        classes, ignored, names: of `LabelMetric`; line_f leaves out the ignored ones, too.
    """

    def __init__(self, *, tolerance_px: int, classes: int, ignored: Sequence[int] = (), names: Sequence[str] = ()) -> None:
        super().__init__(classes=classes, ignored=ignored, names=names)
        self.tolerance_px = tolerance_px
        self._lines = tuple(index for index in range(classes) if index not in ignored)
        self._line_counts = np.zeros((len(self._lines), 4), np.int64)

    def update(self, result: LabelMap, truth: Array) -> None:
        super().update(result, truth)
        for found, true in _images(result.labels, truth):
            self._line_counts += self._counted(found, true, self.tolerance_px)

    def compute(self) -> dict[str, float]:
        """As of `LabelMetric`, and line_f: the mean over classes that occur, 0..1."""
        return super().compute() | {"line_f": float(mean_f(self._line_counts))}

    def statistics(self) -> tuple[Array, ...]:
        """As of `LabelMetric`, and (classes that are not ignored, 4) int64 of `line_counts`."""
        return (*super().statistics(), self._line_counts.copy())

    def details(self) -> dict[str, Any]:
        """As of `LabelMetric`, and class_line_f by name, of classes that occur or are predicted."""
        found = super().details()
        if not found:
            return {}
        values = zip(self._lines, f_measure(self._line_counts), strict=True)
        return found | {"class_line_f": {self._names[index]: float(value) for index, value in values if np.isfinite(value)}}

    def _counted(self, found: Array, truth: Array, tolerance_px: int) -> Array:
        return line_counts(found, truth, classes=self.classes, wanted=self._lines, tolerance_px=tolerance_px)


class FullLineMetric(LineMetric):
    """As `LineMetric`, with the F-measure as BDD100K takes it in its details. `update` takes whole frames."""

    def __init__(self, *, tolerance_px: int, classes: int, ignored: Sequence[int] = (), names: Sequence[str] = ()) -> None:
        super().__init__(tolerance_px=tolerance_px, classes=classes, ignored=ignored, names=names)
        self._by_image: dict[int, Array] = {
            radius: np.zeros(len(self._lines)) for radius in sorted({*_BDD_PX, self.tolerance_px})
        }
        self._images = 0

    def update(self, result: LabelMap, truth: Array) -> None:
        super().update(result, truth)
        for found, true in _images(result.labels, truth):
            self._images += 1
            for radius, total in self._by_image.items():
                total += image_f(self._counted(found, true, radius))

    def details(self) -> dict[str, Any]:
        """As of `LineMetric`, and line_f_of_images: by tolerance ("1 px"), the mean over images, then over classes."""
        found = super().details()
        if not found:
            return {}
        means: Mapping[str, float] = {f"{px} px": float(total.mean()) / self._images for px, total in self._by_image.items()}
        return found | {"line_f_of_images": means}


def line_counts(found: Array, truth: Array, *, classes: int, wanted: Sequence[int], tolerance_px: int) -> Array:
    """What the F-measure of a frame is made of, by class.

    Args:
        found: (H, W) integer class indices as predicted.
        truth: (H, W) the true ones. Pixels outside 0..classes-1 (void: 255 or -1) count for neither: what is predicted there is
            not right, not wrong, and finds nothing.
        classes: how many there are.
        wanted: indices of those that are looked at.
        tolerance_px: how far two pixels may be apart.
    Returns:
        (len(wanted), 4) int64: predicted pixels, those of them within the tolerance of a true one, true pixels, those of them
        within it of a predicted one.
    """
    same_shape(found, truth)
    known = (truth >= 0) & (truth < classes)
    counts = np.zeros((len(wanted), 4), np.int64)
    for row, index in zip(counts, wanted, strict=True):
        true = truth == index
        answered = (found == index) & known
        row[0], row[2] = np.count_nonzero(answered), np.count_nonzero(true)
        if row[0] and row[2]:
            row[1] = np.count_nonzero(answered & _around(true, tolerance_px))
            row[3] = np.count_nonzero(true & _around(answered, tolerance_px))
    return counts


def f_measure(counts: Array) -> Array:
    """(...) float64 of (..., 4) counts as of `line_counts`: NaN where nothing is true and nothing was predicted, 0 where only
    one of them is."""
    found, right, true, seen = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    precision, recall = _share(right, found), _share(seen, true)
    return np.asarray(np.where(found + true > 0, _share(2.0 * precision * recall, precision + recall), np.nan))


def image_f(counts: Array) -> Array:
    """As `f_measure`, of one image as BDD100K has it: 1 where nothing is true and nothing was predicted."""
    values = f_measure(counts)
    return np.where(np.isnan(values), 1.0, values)


def mean_f(counts: Array) -> Array:
    """(...) means over the classes of (..., C, 4) counts; NaN where none occurs."""
    values = f_measure(counts)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1))


def resampled_f(counts: Sequence[Array], weights: Array) -> Array:
    """(R,) line_f of R draws of F frames: `counts` (C, 4) of each frame, `weights` (R, F)."""
    return mean_f(np.tensordot(weights, np.stack(counts).astype(np.float64), axes=1))


def _around(mask: Array, radius: int) -> Array:
    """(H, W) bool: what is within `radius` of a pixel of the mask."""
    import cv2

    steps = np.arange(-radius, radius + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    return np.asarray(cv2.dilate(mask.view(np.uint8), disc)).view(bool)


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _images(found: Array, truth: Array) -> zip[tuple[Array, Array]]:
    """One frame after another of (..., H, W) labels and truths."""
    same_shape(found, truth)
    return zip(*(np.asarray(maps).reshape(-1, *np.shape(maps)[-2:]) for maps in (found, truth)), strict=True)
