"""Which of several boxes of one object stays: greedy non-maximum suppression within each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_mtl import opencv
from edge_mtl.tasks.box_overlap import overlaps

__all__ = ["suppressed"]

Array = np.ndarray

cv2 = opencv.require()


def suppressed(boxes: Array, scores: Array, classes: Array, *, overlap: float, most: int) -> Array:
    """Indices of the boxes that stay, highest score first: greedy, within each class.

    Args:
        boxes: (N, 4), of positive extent.
        scores: (N,) above 0, in falling order.
        classes: (N,) int64.
        overlap: a box goes where it overlaps one that stays, of its class, by more than this.
        most: how many stay at most.
    """
    if len(boxes) < 2:
        return np.arange(min(len(boxes), most))
    batched: Any = getattr(cv2.dnn, "NMSBoxesBatched", None)
    if batched is None:  # OpenCV before 4.7
        return _greedy(boxes, classes, overlap, most)
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
    # It moves classes apart by the largest coordinate, so that must not be negative.
    sides[:, :2] -= sides[:, :2].min()
    kept = batched(sides, scores.astype(np.float32), classes.astype(np.int32), 0.0, overlap)
    return np.asarray(kept, np.int64).ravel()[:most]


def _greedy(boxes: Array, classes: Array, overlap: float, most: int) -> Array:
    rivals = (overlaps(boxes.astype(np.float64), boxes.astype(np.float64)) > overlap) & (classes[:, None] == classes[None])
    alive, kept = np.ones(len(boxes), bool), []
    for index in range(len(boxes)):
        if alive[index]:
            kept.append(index)
            if len(kept) == most:
                break
            alive &= ~rivals[index]
    return np.array(kept, np.int64)
