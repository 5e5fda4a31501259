"""Where boxes are in the room: a relation between boxes and a depth of the same frame."""

from __future__ import annotations

import numpy as np

from edge_mtl.image.frames import Intrinsics

__all__ = ["box_centres", "box_sizes"]

Array = np.ndarray
_INNER = 0.5
"""The share of a box's width and height, around its centre, whose depth counts: nearer its edges is background."""


def box_centres(xyxy: Array, depth_m: Array, camera: Intrinsics) -> Array:
    """The centre of each box at the median distance of its inner half, which a few pixels of background do not move.

    Args:
        xyxy: (N, 4) edges in pixels of the map, as in `Boxes`.
        depth_m: (H, W) metres along z, NaN where unknown.
        camera: in pixels of the map.
    Returns:
        (N, 3) float32 metres in the camera's frame: x right, y down, z forward; NaN where no depth is known.
    """
    centres = np.full((len(xyxy), 3), np.nan, np.float32)
    for number, (left, top, right, bottom) in enumerate(np.asarray(xyxy, np.float64)):
        x, y = (left + right) / 2, (top + bottom) / 2
        inner = depth_m[
            _pixels(y, bottom - top, depth_m.shape[0]),
            _pixels(x, right - left, depth_m.shape[1]),
        ]
        known = inner[np.isfinite(inner)]
        if known.size:
            z = float(np.median(known))
            centres[number] = (x - camera.cx) / camera.fx * z, (y - camera.cy) / camera.fy * z, z
    return centres


def box_sizes(xyxy: Array, centres: Array, camera: Intrinsics) -> Array:
    """(N, 3) float32 metres: width and height at the distance of (N, 3) `centres`, and the smaller of both for the depth.

    How far an object reaches behind what is seen of it, an image does not say. NaN where the centre is.
    """
    edges = np.asarray(xyxy, np.float64)
    width = (edges[:, 2] - edges[:, 0]) / camera.fx * centres[:, 2]
    height = (edges[:, 3] - edges[:, 1]) / camera.fy * centres[:, 2]
    return np.stack([width, height, np.minimum(width, height)], axis=1).astype(np.float32)


def _pixels(centre: float, side: float, count: int) -> slice:
    """The pixels of the inner part of a side, at least one, within the map."""
    half = side * _INNER / 2
    first = min(max(round(centre - half), 0), count - 1)
    return slice(first, min(max(round(centre + half), first), count - 1) + 1)
