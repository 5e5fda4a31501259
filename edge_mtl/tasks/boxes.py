"""The kind "boxes": objects of one frame as boxes with a class and a score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_mtl.tasks.kind import Result, TaskSpec

__all__ = ["BoxTruth", "Boxes", "BoxesSpec"]

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class BoxesSpec(TaskSpec):
    """A task of boxes.

    Attributes:
        classes: names by index.
        levels: strides of the network's outputs, in pixels of its input, finest first.
        score: boxes with a lower score are not answered.
        nms_iou: of two boxes of one class that overlap by more than this, the one with the lower score is not answered.
        most: boxes that a frame has at most, those with the highest scores.
    """

    classes: tuple[str, ...]
    levels: tuple[int, ...] = (8, 16, 32)
    score: float = 0.3
    nms_iou: float = 0.6
    most: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class Boxes(Result):
    """Objects of one frame, highest score first.

    Boxes are edges in pixels of the map, where the centre of a pixel is at whole numbers, as a camera's centre is: a box over
    a whole image of 640x480 is (-0.5, -0.5, 639.5, 479.5).

    Attributes:
        xyxy: (N, 4) float32: left, top, right, bottom.
        scores: (N,) float32 in 0..1.
        classes: (N,) int64, class index.
    """

    spec: BoxesSpec
    xyxy: Array
    scores: Array
    classes: Array

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> tuple[str, ...]:
        """The class of every box by name."""
        return tuple(self.spec.classes[index] for index in self.classes)


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
