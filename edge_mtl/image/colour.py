"""Maps as images: classes, depth and normals as (H, W, 3) uint8 RGB.

Knows colour scales; knows nothing about files, layout or networks.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.image import VOID

__all__ = ["blend", "colour_depth", "colour_labels", "colour_normals", "depth_range", "depth_scale", "logarithmic_range"]

Image = NDArray[np.uint8]

_STRIP_ROWS = 64
_DECADES = 1000.0
"""A logarithmic scale begins at no less than its end by this: one that begins at 0 would show nothing."""


def colour_labels(labels: NDArray[np.uint8], *, palette: NDArray[np.uint8]) -> Image:
    """Class indices (H, W) uint8 to their colours, `palette` (C, 3) uint8 RGB; void and unknown classes are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: min(len(palette), VOID)] = palette[:VOID]
    return np.dstack([cv2.LUT(labels, table[:, channel]) for channel in range(3)])


def depth_range(depth_m: NDArray[np.float32]) -> tuple[float, float]:
    """(nearest, farthest) in metres without the outermost 2 %, for a colour scale; (0, 1) if nothing is known."""
    known = depth_m[np.isfinite(depth_m) & (depth_m > 0)]
    if known.size == 0:
        return 0.0, 1.0
    near, far = (float(value) for value in np.percentile(known, (2, 98)))
    return near, max(far, near + 0.1)


def logarithmic_range(near: float, far: float) -> tuple[float, float]:
    """The ends of a logarithmic scale from those of a linear one, which may begin at 0."""
    return max(near, far / _DECADES), far


def colour_depth(
    depth_m: NDArray[np.float32], range_m: tuple[float, float] | None = None, *, logarithmic: bool = False
) -> Image:
    """Depth (H, W) float32 in metres: warm is near, cold is far, black is unknown.

    Args:
        range_m: (nearest, farthest) of the scale; by default that of `depth_range`.
        logarithmic: whether twice as far is as much colder everywhere, for depth that spans several orders of magnitude.
    """
    near, far = depth_range(depth_m) if range_m is None else range_m
    if logarithmic:
        near, far = np.log(logarithmic_range(near, far)).tolist()
    image = np.empty((*depth_m.shape, 3), np.uint8)
    for rows in _strips(depth_m.shape[0]):
        known = np.isfinite(depth_m[rows]) & (depth_m[rows] > 0)
        shown = np.log(np.where(known, depth_m[rows], 1.0)) if logarithmic else np.where(known, depth_m[rows], far)
        share = (shown - near) / max(far - near, 1e-6)
        image[rows] = _scale(1.0 - np.clip(share, 0.0, 1.0))
        image[rows][~known] = 0
    return image


def depth_scale(height: int, width: int) -> Image:
    """The colours of `colour_depth` from near (left) to far (right), as a bar."""
    return _scale(np.repeat(np.linspace(1.0, 0.0, width, dtype=np.float32)[None], height, axis=0))


def colour_normals(normals: NDArray[np.float32]) -> Image:
    """Normals (H, W, 3) float32, camera x right, y down, z forward; black is unknown.

    Red grows to the right, green upwards and blue towards the camera, the usual look: floors are green, a wall seen
    frontally is blue.
    """
    image = np.empty(normals.shape, np.uint8)
    for rows in _strips(normals.shape[0]):
        part = normals[rows]
        known = np.isfinite(part).all(axis=2) & (np.abs(part).sum(axis=2) > 1e-6)
        facing = np.where(known[..., None], part, 0.0) * np.array([1.0, -1.0, -1.0], np.float32)
        image[rows] = np.clip(facing * 127.5 + 127.5, 0, 255)
        image[rows][~known] = 0
    return image


def blend(frame: Image, colours: Image, *, opacity: float = 0.55) -> Image:
    """`colours` over `frame`, both (H, W, 3) uint8; black in `colours` leaves the frame as it is."""
    mixed = cv2.addWeighted(frame, 1.0 - opacity, colours, opacity, 0.0)
    return np.where(colours.any(axis=2, keepdims=True), mixed, frame).astype(np.uint8)


def _strips(height: int) -> Iterator[slice]:
    """Rows that are worked on together: what is made of all at once takes ten times the memory of the result."""
    return (slice(top, top + _STRIP_ROWS) for top in range(0, height, _STRIP_ROWS))


def _scale(share: NDArray[np.floating]) -> Image:
    """0..1 to RGB by OpenCV's perceptually improved rainbow (turbo, Mikhailov 2019)."""
    # The outermost colours of turbo are nearly black: leave them out.
    index = np.round(20 + 220 * share).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(index, cv2.COLORMAP_TURBO)[:, :, ::-1])
