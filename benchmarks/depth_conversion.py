"""Stored depth of other people's cameras as metres, and from one camera to another. Knows arrays; knows no files or folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from edge_mtl.image.frames import Intrinsics

__all__ = ["metres_of_disparity", "metres_of_rotated", "metres_of_units", "resized_camera", "seen_beside", "thinned"]

Array = np.ndarray
One = TypeVar("One")

_UNKNOWN = np.iinfo(np.uint16).max
"""What 7-Scenes stores where depth is unknown; elsewhere so far that no such camera sees it."""
_SMALLEST_PX = 1e-6


def thinned(names: Sequence[One], count: int) -> list[One]:
    """`count` of a sequence, evenly, with the first and the last: round(linspace(0, n - 1, count)); all where it has fewer."""
    if len(names) <= count:
        return list(names)
    return [names[int(place)] for place in np.round(np.linspace(0, len(names) - 1, count))]


def metres_of_units(stored: Array, unit_m: float) -> Array:
    """(H, W) uint16 of a unit in metres -> (H, W) float32 metres; 0 and 65535 are unknown and become 0."""
    return np.where(stored == _UNKNOWN, 0.0, stored * unit_m).astype(np.float32)


def metres_of_rotated(stored: Array) -> Array:
    """Depth as SUN RGB-D stores it, (H, W) uint16 millimetres whose bits are rotated left by 3 -> (H, W) float32 metres.

    Source: read3dPoints.m of the toolbox of Song, Lichtenberg & Xiao 2015, "SUN RGB-D".
    """
    bits = stored.astype(np.uint16)
    return metres_of_units((bits >> 3) | (bits << 13), 0.001)


def metres_of_disparity(disparity: Array, *, focal_px: float, baseline_m: float, offset_px: float) -> Array:
    """(H, W) pixels of disparity -> (H, W) float32 metres, baseline * focal / (disparity + offset), 0 where that is not finite.

    Args:
        offset_px: how far the principal point of the right image is to the right of that of the left one.
    Source: Scharstein et al. 2014, "High-Resolution Stereo Datasets with Subpixel-Accurate Ground Truth".
    """
    apart = np.asarray(disparity, np.float64) + offset_px
    known = np.isfinite(apart) & (apart > _SMALLEST_PX)
    return np.where(known, baseline_m * focal_px / np.where(known, apart, 1.0), 0.0).astype(np.float32)


def resized_camera(camera: Intrinsics, size: tuple[int, int], wanted: tuple[int, int]) -> Intrinsics:
    """The camera of an image of `size` (H, W) after it was resized to `wanted`; pixel centres are whole numbers."""
    sy, sx = wanted[0] / size[0], wanted[1] / size[1]
    return Intrinsics(camera.fx * sx, camera.fy * sy, (camera.cx + 0.5) * sx - 0.5, (camera.cy + 0.5) * sy - 0.5)


def seen_beside(depth_m: Array, own: Intrinsics, other: Intrinsics, *, right_m: float, size: tuple[int, int]) -> Array:
    """Depth of one camera as another one sees it that looks the same way from `right_m` to its right.

    Every pixel goes to the nearest one of the other image; of several that meet there, the nearest to the camera stays.

    Args:
        depth_m: (h, w) metres along the optical axis, 0 unknown.
        own, other: the cameras.
        size: (H, W) of the other's image.
    Returns:
        (H, W) float32 metres, 0 where nothing is seen.
    """
    rows, columns = np.nonzero(depth_m > 0)
    z = np.asarray(depth_m, np.float64)[rows, columns]
    x, y = (columns - own.cx) / own.fx * z - right_m, (rows - own.cy) / own.fy * z
    to_column, to_row = (np.rint(value).astype(np.intp) for value in (x / z * other.fx + other.cx, y / z * other.fy + other.cy))
    inside = (to_row >= 0) & (to_row < size[0]) & (to_column >= 0) & (to_column < size[1])
    nearest = np.full(size, np.inf)
    np.minimum.at(nearest, (to_row[inside], to_column[inside]), z[inside])
    return np.where(np.isfinite(nearest), nearest, 0.0).astype(np.float32)
