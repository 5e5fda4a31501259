"""Normals of dense depth by planes fitted to whole windows, none near a jump. Pseudo-truth: for depth with coarse steps.

`mtl.datasets.surface` weighs neighbours by how near in depth they are, for which noise must be small; steps of 8 bits are not,
so here all pixels of a window count alike, and windows that reach across an edge have no normal at all. A plane is linear in
inverse depth over the pixel grid, see there.
"""

from __future__ import annotations

import cv2
import numpy as np

from mtl.geometry import Intrinsics

__all__ = ["window_normals"]

Array = np.ndarray

_LEAST_M = 0.1
_SINGULAR = 1e-18


def window_normals(depth_m: Array, intrinsics: Intrinsics, *, window: int = 15, jump: float = 0.06, margin: int = 9) -> Array:
    """Normals by least squares over `window` x `window` pixels.

    Args:
        depth_m: (H, W) float along z, 0 where unknown.
        intrinsics: fx, fy, cx, cy at this size.
        jump: relative difference of depth between neighbours that is an edge.
        margin: pixels around an edge, in a square of this side, that get no normal; nor do those around unknown depth.
    Returns:
        (H, W, 3) float32 unit, camera frame, facing the camera; 0 where there is none.
    """
    fx, fy, cx, cy = intrinsics
    height, width = depth_m.shape
    columns, rows = np.meshgrid((np.arange(width) - cx) / fx, (np.arange(height) - cy) / fy)
    inverse = 1.0 / np.maximum(depth_m.astype(np.float64), _LEAST_M)

    def mean(values: Array) -> Array:
        return cv2.boxFilter(values, -1, (window, window), normalize=True, borderType=cv2.BORDER_REFLECT)

    x, y, q = mean(columns), mean(rows), mean(inverse)
    xx, yy, xy = mean(columns * columns) - x * x, mean(rows * rows) - y * y, mean(columns * rows) - x * y
    qx, qy = mean(inverse * columns) - q * x, mean(inverse * rows) - q * y
    determinant = xx * yy - xy * xy + _SINGULAR
    # 1/z = a X/Z + b Y/Z + c: the plane (a, b, c) . P = 1, whose normal towards the camera is -(a, b, c)
    a, b = (qx * yy - qy * xy) / determinant, (qy * xx - qx * xy) / determinant
    away = np.stack([a, b, q - a * x - b * y], axis=-1)
    length = np.linalg.norm(away, axis=-1, keepdims=True)
    fine = ~_near_edges(depth_m, jump, margin)[..., None] & (length > 0)
    return np.divide(-away, length, out=np.zeros_like(away), where=fine).astype(np.float32)


def _near_edges(depth_m: Array, jump: float, margin: int) -> Array:
    """(H, W) bool: an edge or unknown depth lies within the margin."""
    depth = depth_m.astype(np.float32)
    gradient = cv2.morphologyEx(depth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    edge = (gradient > jump * depth) | (depth <= 0)
    near: Array = cv2.dilate(edge.astype(np.uint8), np.ones((margin, margin), np.uint8)) > 0
    return near
