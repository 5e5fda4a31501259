"""How well a depth map and a normal map of one frame agree: a confidence that costs no network.

Knows maps and the camera; knows nothing about networks or predictions. The inverse depth of a plane is linear in the
pixels, 1 / z = n.K^-1 p / h, so the normals of a depth map are read from linear fits to it, exact for planes at any window
size. At each place the window with the best fit among those that contain it is taken, as Kuwahara's filter does: windows
across a depth edge fit badly, and one on either side takes their place.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge_mtl.image.frames import Intrinsics

__all__ = ["depth_normal_angle", "fitted_normals"]

Array = np.ndarray

_CELLS = 96
"""Depth is looked at on a grid of about this many cells along its longer side: networks do not resolve more."""

_RADIUS = 2
"""Windows are 5x5 cells."""


def depth_normal_angle(depth_m: Array, normals: Array, camera: Intrinsics) -> Array:
    """The angle between predicted normals and those of the predicted depth.

    Args:
        depth_m: (H, W) float32 along z, NaN or not positive where unknown. A common factor changes nothing.
        normals: (H, W, 3) float32 unit, facing the camera, NaN where unknown.
        camera: of these maps, in their pixels.
    Returns:
        (H, W) float32 degrees, 0..180; NaN where either is unknown, or no window of known depth contains the pixel.
    """
    known = np.isfinite(depth_m) & (depth_m > 0)
    fitted = fitted_normals(depth_m, camera)
    with np.errstate(invalid="ignore"):
        apart = np.sqrt(np.square(fitted - normals).sum(axis=2))
        along = np.sqrt(np.square(fitted + normals).sum(axis=2))
        angle = np.degrees(2.0 * np.arctan2(apart, along)).astype(np.float32)
    angle[~known] = np.nan
    return angle


def fitted_normals(depth_m: Array, camera: Intrinsics) -> Array:
    """Normals of the surface that a depth map describes, from the best-fitting planes around each pixel.

    Args:
        depth_m: (H, W) float32 along z, NaN or not positive where unknown.
        camera: of this map, in its pixels.
    Returns:
        (H, W, 3) float32 unit, facing the camera, constant within a cell of the grid; NaN where no window of known
        depth contains the cell.
    """
    height, width = depth_m.shape
    inverse, cell = _inverse_depth_cells(depth_m)
    scale_x, scale_y = cell.shape[1] / width, cell.shape[0] / height
    normals = np.full((*cell.shape, 3), np.nan, np.float32)
    radius = min(_RADIUS, (min(cell.shape) - 1) // 2)
    if radius >= 1:
        best = _best_planes(inverse, cell, radius)
        x = (best.column - ((camera.cx + 0.5) * scale_x - 0.5)) / (camera.fx * scale_x)
        y = (best.row - ((camera.cy + 0.5) * scale_y - 0.5)) / (camera.fy * scale_y)
        along_x, along_y = best.slope_x * (camera.fx * scale_x), best.slope_y * (camera.fy * scale_y)
        found = -np.dstack([along_x, along_y, best.mean - x * along_x - y * along_y])
        found[~best.fits] = np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            normals = (found / np.linalg.norm(found, axis=2, keepdims=True)).astype(np.float32)
    return cv2.resize(normals, (width, height), interpolation=cv2.INTER_NEAREST) if cell.shape != (height, width) else normals


@dataclass(frozen=True, slots=True)
class _Planes:
    """The best plane at each cell: slopes and mean of inverse depth of its window, and where that window's centre is."""

    slope_x: Array
    slope_y: Array
    mean: Array
    column: Array
    row: Array
    fits: Array


def _inverse_depth_cells(depth_m: Array) -> tuple[Array, Array]:
    """Mean inverse depth over the known pixels of each cell, and which cells are known for the most part."""
    height, width = depth_m.shape
    known = np.isfinite(depth_m) & (depth_m > 0)
    inverse = np.zeros((height, width), np.float32)
    np.divide(1.0, depth_m, out=inverse, where=known)
    factor = min(1.0, _CELLS / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if size == (width, height):
        return inverse, known
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(inverse, size, interpolation=cv2.INTER_AREA)
    return mean / np.maximum(share, 1e-6), share > 0.5


def _best_planes(inverse: Array, known: Array, radius: int) -> _Planes:
    """Fit a plane to every window, then choose for every cell among the nine windows shifted by the radius or not."""
    length = 2 * radius + 1
    steps = np.arange(-radius, radius + 1, dtype=np.float32)
    slope, flat = steps / np.square(steps).sum(), np.full(length, 1.0 / length, np.float32)

    def windowed(values: Array, horizontal: Array, vertical: Array) -> Array:
        return cv2.sepFilter2D(values, cv2.CV_64F, horizontal, vertical, borderType=cv2.BORDER_REPLICATE)

    values = inverse.astype(np.float64)
    slope_x, slope_y = windowed(values, slope, flat), windowed(values, flat, slope)
    mean = windowed(values, flat, flat)
    spread = windowed(values * values, flat, flat) - mean * mean
    left = spread - np.square(steps).mean() * (slope_x * slope_x + slope_y * slope_y)
    misfit = np.maximum(left, 0.0) / np.maximum(mean * mean, 1e-12)
    whole = cv2.erode(known.astype(np.uint8), np.ones((length, length), np.uint8), borderValue=0) > 0
    misfit[~whole] = np.inf
    grid: Array = np.indices(inverse.shape)
    rows, columns = grid[0], grid[1]
    best = np.full(inverse.shape, np.inf)
    row, column = rows.copy(), columns.copy()
    for down in (0, -radius, radius):
        for right in (0, -radius, radius):
            at_row = np.clip(rows + down, radius, max(radius, inverse.shape[0] - 1 - radius))
            at_column = np.clip(columns + right, radius, max(radius, inverse.shape[1] - 1 - radius))
            found = misfit[at_row, at_column]
            better = found < best
            best[better] = found[better]
            row[better], column[better] = at_row[better], at_column[better]
    return _Planes(slope_x[row, column], slope_y[row, column], mean[row, column], column, row, np.isfinite(best))
