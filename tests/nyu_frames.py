"""Frames with the three truths of the study, made from arrays and taken apart again."""

from __future__ import annotations

from typing import Any

import numpy as np
from mtl.datasets.augment import View, apply_view
from mtl.datasets.frame import Frame
from mtl.geometry import Intrinsics

from edge_mtl.tasks import NYU_TASKS, Specs

__all__ = ["FrameList", "nyu_frame", "view_arrays"]


class FrameList:
    """Frames in memory as a source."""

    def __init__(self, frames: list[Frame], tasks: Specs = NYU_TASKS) -> None:
        self.frames, self.tasks = frames, tasks

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]


def nyu_frame(image: np.ndarray, label: np.ndarray, depth_m: np.ndarray, normals: np.ndarray, camera: Intrinsics) -> Frame:
    """A frame of which everything is known."""
    return Frame(image, {"segmentation": label, "depth": depth_m, "normals": normals}, camera)


def view_arrays(frame: Frame, view: View, **options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Intrinsics]:
    """Image, labels, depth, normals and camera of a view; `options` as those of `apply_view`."""
    seen = apply_view(frame, view, NYU_TASKS, **options)
    return seen.image, seen.truths["segmentation"], seen.truths["depth"], seen.truths["normals"], seen.intrinsics
