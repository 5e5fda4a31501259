"""All that COCO reports of boxes: precision by size of the objects, and recall of one, ten and a hundred boxes a frame.

Source: cocodataset.org/#detection-eval. An object of another size, and a box of another size that is no object's, count neither
way; what that text leaves open is as in pycocotools. Sizes are areas of the boxes: masks are not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_mtl.tasks.box_metric import MOST, BoxMetric, FrameMatches, resampled

if TYPE_CHECKING:
    from edge_mtl.tasks.box_objects import BoxTruth
    from edge_mtl.tasks.boxes import Boxes

__all__ = ["FullBoxMetric", "average_recall"]

_SIZES_PX = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
"""In square pixels, both ends included."""
_FEW = (1, 10, MOST)
"""Boxes of a class and frame, of which recall is told."""


class FullBoxMetric(BoxMetric):
    """As `BoxMetric`, with the twelve numbers of COCO in its details."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._of_size: dict[str, list[FrameMatches]] = {size: [] for size in _SIZES_PX}

    def update(self, result: Boxes, truth: BoxTruth) -> None:
        super().update(result, truth)
        for size, frames in self._of_size.items():
            frames.append(FrameMatches.of(result.measured, truth, classes=len(self._names), size_px=_SIZES_PX[size]))

    def details(self) -> dict[str, Any]:
        """As of `BoxMetric`, and coco: ap, ap50, ap75, ap_small, ap_medium, ap_large, ar_1, ar_10, ar_100 (recall of so many
        boxes of a class and frame), ar_small, ar_medium, ar_large; without those that nothing is known of."""
        numbers = self.compute()
        numbers |= {f"ap_{size}": self._precision_of(frames) for size, frames in self._of_size.items()}
        numbers |= {f"ar_{most}": average_recall(self._frames, most=most) for most in _FEW}
        numbers |= {f"ar_{size}": average_recall(frames) for size, frames in self._of_size.items()}
        known = {name: value for name, value in numbers.items() if np.isfinite(value)}
        return super().details() | ({"coco": known} if known else {})

    def _precision_of(self, frames: Sequence[FrameMatches]) -> float:
        return float(resampled(frames, self._once())["ap"][0])


def average_recall(frames: Sequence[FrameMatches], *, most: int = MOST) -> float:
    """The mean over overlaps, and over classes that have objects, of the share of objects that are found.

    Args:
        most: boxes of a class and frame that count, those of the highest scores.
    """
    if not frames:
        return float("nan")
    objects = np.sum([frame.objects for frame in frames], axis=0)
    found = np.zeros((len(frames[0].hits), len(objects)))
    for frame in frames:
        for index in np.unique(frame.classes):
            found[:, index] += frame.hits[:, frame.classes == index][:, :most].sum(axis=1)
    known = objects > 0
    return float((found[:, known] / objects[known]).mean()) if known.any() else float("nan")
