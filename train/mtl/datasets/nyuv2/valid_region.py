"""The part of a 480x640 frame that everybody trains on: without the white border, reduced to the size of the network."""

from __future__ import annotations

import cv2
import numpy as np

from mtl.geometry import Intrinsics, crop_and_resize_intrinsics

__all__ = ["CAMERA", "CROP", "CUT", "FRAME", "NORMAL_WINDOW", "camera_at", "nearest_pixels", "reduced_image"]

FRAME = (480, 640)
CAMERA: Intrinsics = (518.858, 519.470, 325.582, 253.736)
"""fx, fy, cx, cy of the colour camera at 480x640, from the toolbox."""
CROP = (44, 40, 427, 561)
"""Top, left, height, width of the region with valid depth, in 480x640."""
CUT = np.s_[CROP[0] : CROP[0] + CROP[2], CROP[1] : CROP[1] + CROP[3]]
"""The same as slices of rows and columns."""
NORMAL_WINDOW = {"radius": 6, "step": 2}
"""Of `mtl.datasets.surface.normals_of_depth` for fine depth of the valid region at its own size."""


def camera_at(size: tuple[int, int]) -> Intrinsics:
    """fx, fy, cx, cy of the valid region at a size (H, W)."""
    return crop_and_resize_intrinsics(CAMERA, window=CROP, size=size)


def reduced_image(cut: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(427, 561, 3) uint8 RGB -> (H, W, 3) float32, 0..1, by area."""
    pixels = np.ascontiguousarray(cut, np.uint8)
    return (cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA) / 255.0).astype(np.float32)


def nearest_pixels(size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Index of (427, 561[, C]) arrays: the pixel that is nearest to the centre of each of `size` pixels."""
    return np.ix_(_nearest(CROP[2], size[0]), _nearest(CROP[3], size[1]))


def _nearest(length: int, size: int) -> np.ndarray:
    """Which of `length` pixels is nearest to the centre of each of `size` pixels."""
    return ((np.arange(size) + 0.5) * (length / size)).astype(np.intp)
