"""The objects that a frame has, what boxes are compared with, and the numbers that both are described by. Knows no files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["BoxTruth"]

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class BoxTruth:
    """The objects that a frame has, in any order.

    Attributes:
        xyxy: (N, 4) float32, as in `Boxes`.
        classes: (N,) int64, class index.
        crowd: (N,) bool: a region of many objects, none of them marked: nothing that is found there is right or wrong.
    """

    xyxy: Array
    classes: Array
    crowd: Array

    def __len__(self) -> int:
        return len(self.classes)
