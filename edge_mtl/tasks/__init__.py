"""The three tasks: names, channels, classes, palette, units. Knows nothing about networks or files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["DEPTH", "NORMALS", "NYU13_CLASSES", "NYU13_PALETTE", "SEGMENTATION", "TASKS", "TASK_NAMES", "VOID", "TaskSpec"]

SEGMENTATION = "segmentation"
DEPTH = "depth"
NORMALS = "normals"

VOID = 255
"""Label of a pixel without a class: unlabelled ground truth, or padding."""

NYU13_CLASSES: tuple[str, ...] = (
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
)
"""The 13 classes of NYUv2, in label order (Couprie et al. 2013, arXiv:1301.3572)."""

NYU13_PALETTE: np.ndarray = np.array(
    [
        (0, 0, 255),
        (232, 88, 47),
        (0, 217, 0),
        (148, 0, 240),
        (222, 241, 23),
        (255, 205, 205),
        (0, 223, 228),
        (106, 135, 204),
        (116, 28, 41),
        (240, 35, 235),
        (0, 166, 156),
        (249, 139, 0),
        (225, 229, 194),
    ],
    dtype=np.uint8,
)
"""(13, 3) uint8 RGB, one colour per class; the conventional colours of NYU-13 pictures."""
NYU13_PALETTE.setflags(write=False)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What one head predicts.

    Attributes:
        name: key of the task in manifests, checkpoints and predictions.
        channels: channels of the head's output map.
        unit: unit of the values, empty for classes.
    """

    name: str
    channels: int
    unit: str


TASKS: dict[str, TaskSpec] = {
    SEGMENTATION: TaskSpec(SEGMENTATION, len(NYU13_CLASSES), ""),
    DEPTH: TaskSpec(DEPTH, 1, "m"),
    NORMALS: TaskSpec(NORMALS, 3, "unit vector"),
}

TASK_NAMES: tuple[str, ...] = tuple(TASKS)
"""Every task, in the order used for tables and concatenations."""
