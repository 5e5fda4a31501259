"""An organised point cloud: one point per pixel, in the order of the mask, as Nav2's semantic layer wants it.

Knows depth maps and pinhole cameras; knows nothing about ROS messages. Pixels of unknown depth are NaN points, so that
index row * width + column is the same pixel in the cloud, the mask and the confidence.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edge_mtl.image.frames import Intrinsics

__all__ = ["fill_cloud", "point_type"]

Array = np.ndarray


@lru_cache(maxsize=2)
def point_type(*, normals: bool) -> np.dtype:
    """One point, 20 bytes, 32 with normals: x, y, z float32 metres; rgb as 0x00RRGGBB; label, confidence uint8."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4"), ("label", "u1"), ("confidence", "u1"), ("", "V2")]
    if normals:
        fields += [("normal_x", "<f4"), ("normal_y", "<f4"), ("normal_z", "<f4")]
    return np.dtype([field if field[0] else ("_padding", field[1]) for field in fields])


def fill_cloud(
    cloud: Array,
    *,
    depth_m: Array,
    camera: Intrinsics,
    rgb: Array,
    labels: Array | None,
    confidence: Array | None,
    normals: Array | None,
) -> None:
    """Write the points of one frame.

    Args:
        cloud: (H, W) of `point_type`; filled.
        depth_m: (H, W) float32 along z, NaN where unknown.
        camera: of these maps, in their pixels.
        rgb: (H, W, 3) uint8.
        labels: (H, W) uint8; 255 where there is none.
        confidence: (H, W) uint8, 0..255; 255 where there is none.
        normals: (H, W, 3) float32, written where the type has them.
    """
    height, width = depth_m.shape
    rays_x, rays_y = _rays(width, height, camera)
    np.multiply(depth_m, rays_x, out=cloud["x"])
    np.multiply(depth_m, rays_y, out=cloud["y"])
    cloud["z"] = depth_m
    colour = rgb[..., 0].astype(np.uint32) << 16
    colour |= rgb[..., 1].astype(np.uint32) << 8
    colour |= rgb[..., 2]
    cloud["rgb"] = colour
    cloud["label"] = 255 if labels is None else labels
    cloud["confidence"] = 255 if confidence is None else confidence
    if cloud.dtype.names is not None and "normal_x" in cloud.dtype.names:
        for axis, name in enumerate(("normal_x", "normal_y", "normal_z")):
            cloud[name] = np.nan if normals is None else normals[..., axis]


@lru_cache(maxsize=4)
def _rays(width: int, height: int, camera: Intrinsics) -> tuple[Array, Array]:
    """x / z of each column (1, W) and y / z of each row (H, 1), float32."""
    columns = (np.arange(width, dtype=np.float32) - np.float32(camera.cx)) / np.float32(camera.fx)
    rows = (np.arange(height, dtype=np.float32) - np.float32(camera.cy)) / np.float32(camera.fy)
    return columns[None, :], rows[:, None]
