"""A labelled frame, a source of them, and a batch. Knows nothing about files, rooms or networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mtl.geometry import Intrinsics

if TYPE_CHECKING:
    from torch import Tensor  # reading and converting data sets needs no torch

__all__ = ["Batch", "Frame", "FrameSource"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image and its truth, in the camera it was taken with.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8, 255 void.
        depth_m: (H, W) float32 along z, 0 invalid.
        normals: (H, W, 3) float32 unit, camera frame, 0 invalid.
        intrinsics: fx, fy, cx, cy at this size.
    """

    image: np.ndarray
    label: np.ndarray
    depth_m: np.ndarray
    normals: np.ndarray
    intrinsics: Intrinsics


class FrameSource(Protocol):
    """Frames by number. The same number always gives the same frame."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Frame: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step needs; depth and normals for the canonical camera, or the frames' own (`BatchPlan.canonical`).

    Attributes:
        image: (B, H, W, 3) uint8 RGB.
        targets: "segmentation" (B, h, w) uint8, "depth" (B, h, w) float32 metres,
            "normals" (B, h, w, 3) float32; h, w are H, W, or one pixel per cell when `phase` is set.
        phase: which pixel of each stride x stride cell the targets are, or None for all.
    """

    image: Tensor
    targets: Mapping[str, Tensor]
    phase: tuple[int, int] | None
