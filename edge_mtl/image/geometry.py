"""Depth maps in three dimensions: points and surface normals through a pinhole camera.

Knows metres and cameras (x right, y down, z forward); knows nothing about networks or predictions.
"""

from __future__ import annotations

import numpy as np

from edge_mtl.image.frames import Intrinsics

__all__ = ["normals_of_depth", "points_of_depth"]

Array = np.ndarray


def points_of_depth(depth_m: Array, camera: Intrinsics) -> Array:
    """The point seen at each pixel.

    Args:
        depth_m: (H, W) float32, along z; NaN where unknown.
        camera: of this map, in its pixels.
    Returns:
        (H, W, 3) float32 metres; NaN where unknown.
    """
    height, width = depth_m.shape
    x = ((np.arange(width) - camera.cx) / camera.fx).astype(np.float32)
    y = ((np.arange(height) - camera.cy) / camera.fy).astype(np.float32)
    points = np.empty((height, width, 3), np.float32)
    np.multiply(depth_m, x[None, :], out=points[..., 0])
    np.multiply(depth_m, y[:, None], out=points[..., 1])
    points[..., 2] = depth_m
    return points


def normals_of_depth(depth_m: Array, camera: Intrinsics) -> Array:
    """Normals of the surface that a depth map describes, by central differences of its points.

    Args:
        depth_m: (H, W) float32 metres, at least 2 pixels a side; NaN where unknown.
        camera: of this map, in its pixels.
    Returns:
        (H, W, 3) float32, unit, facing the camera; NaN where a neighbour is unknown.
    """
    points = points_of_depth(depth_m, camera)
    down, right = np.gradient(points, axis=(0, 1))
    normals = np.cross(down, right)
    with np.errstate(invalid="ignore", divide="ignore"):
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    return normals.astype(np.float32)
