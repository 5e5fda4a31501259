"""Readings of one frame from known distances: of single points, of depth maps, of a planar laser scan.

Knows maps and the camera; knows nothing about files, bags or networks. Depth is along the optical axis everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_mtl.errors import DepthScaleError, FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.metric_scale.estimate import Readings

__all__ = ["Along", "KnownPoint", "ScanMount", "of_depth", "of_points", "of_scan"]

Array = np.ndarray
Along = Literal["z", "ray"]
"""Of a known distance: along the optical axis, or from the camera straight to the point."""

_WINDOW = 2
"""A point is read as the median of 5x5 pixels."""
_BLOCKS = 4
"""A frame has 4x4 blocks."""
_MOST = 4096
_FEWEST = 100


@dataclass(frozen=True, slots=True)
class KnownPoint:
    """A distance that somebody measured: at pixel (u, v), column and row; `frame` is "" where there is one frame only."""

    u: float
    v: float
    metres: float
    frame: str = ""


@dataclass(frozen=True, slots=True)
class ScanMount:
    """Where a planar scanner is, seen from the camera of a robot on level ground: x ahead, y left, z up, in metres.

    Attributes:
        yaw_deg: the scanner's x axis, turned left from the camera's view.
        pitch_deg: how far the camera looks down.
    """

    x: float
    y: float
    z: float
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0


def of_points(frame: str, depth_m: Array, points: Sequence[KnownPoint], *, along: Along, camera: Intrinsics | None) -> Readings:
    """One reading a point.

    Args:
        depth_m: (H, W) predicted, NaN where unknown.
        along: what the distances are along.
        camera: of the map, in its pixels; needed for those along the ray.
    Raises:
        DepthScaleError: a point lies outside of the frame, nothing is predicted there, or it needs a camera.
    """
    height, width = depth_m.shape
    true, predicted = [], []
    for point in points:
        column, row = round(point.u), round(point.v)
        if not (0 <= column < width and 0 <= row < height):
            raise DepthScaleError(
                f"The point {point.u:g},{point.v:g} is outside of {frame}, which is {height}x{width}: give column,row=metres."
            )
        window = depth_m[max(0, row - _WINDOW) : row + _WINDOW + 1, max(0, column - _WINDOW) : column + _WINDOW + 1]
        if not np.isfinite(window).any():
            raise DepthScaleError(f"No depth is predicted at {point.u:g},{point.v:g} of {frame}. Measure another point.")
        true.append(point.metres if along == "z" else point.metres / _ray_length(point, camera))
        predicted.append(float(np.nanmedian(window)))
    return Readings(frame, np.array(true), np.array(predicted), np.arange(len(true)))


def of_depth(frame: str, depth_m: Array, true_m: Array, *, farthest_m: float) -> Readings:
    """Readings on a grid of at most 4096 pixels.

    Args:
        depth_m: (H, W) predicted, NaN where unknown.
        true_m: (h, w) along z, of the same view at any resolution; 0, NaN or infinite where unknown.
        farthest_m: what the network was made for: true distances beyond say nothing about its scale.
    Raises:
        FrameError: the shape is another one, or too little of both is known.
    """
    height, width = depth_m.shape
    if abs(true_m.shape[0] * width / true_m.shape[1] - height) > 0.02 * height:
        raise FrameError(
            f"{frame} is {height}x{width} and its depth {true_m.shape[0]}x{true_m.shape[1]}: another view. Register the depth "
            "to the camera first."
        )
    step = max(1, math.ceil(math.sqrt(height * width / _MOST)))
    rows, columns = np.arange(step // 2, height, step), np.arange(step // 2, width, step)
    predicted = depth_m[np.ix_(rows, columns)]
    at_row = np.minimum((rows + 0.5) * true_m.shape[0] / height, true_m.shape[0] - 1).astype(int)
    at_column = np.minimum((columns + 0.5) * true_m.shape[1] / width, true_m.shape[1] - 1).astype(int)
    true = np.asarray(true_m[np.ix_(at_row, at_column)], np.float64)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(true) & (true > 0) & (true <= farthest_m) & np.isfinite(predicted) & (predicted > 0)
    if int(known.sum()) < _FEWEST:
        raise FrameError(
            f"{frame}: {int(known.sum())} pixels have a predicted and a true depth of up to {farthest_m:g} m, at least "
            f"{_FEWEST} expected. Is its unit right?"
        )
    block = (rows * _BLOCKS // height)[:, None] * _BLOCKS + (columns * _BLOCKS // width)[None, :]
    return Readings(frame, true[known], predicted[known], np.broadcast_to(block, known.shape)[known])


def of_scan(
    frame: str, depth_m: Array, ranges_m: Array, angles: Array, mount: ScanMount, camera: Intrinsics, *, farthest_m: float
) -> Readings:
    """Readings where the beams of a planar scanner end in the image.

    Args:
        depth_m: (H, W) predicted, NaN where unknown.
        ranges_m: (N,); not finite or not positive where nothing was met.
        angles: (N,) radians from the scanner's x axis, to its left.
        camera: of the map, in its pixels.
    Raises:
        FrameError: fewer than ten beams end in the image.
    """
    height, width = depth_m.shape
    turn, pitch = angles + math.radians(mount.yaw_deg), math.radians(mount.pitch_deg)
    with np.errstate(invalid="ignore"):
        ahead, left = ranges_m * np.cos(turn) + mount.x, ranges_m * np.sin(turn) + mount.y
    forward = ahead * math.cos(pitch) - mount.z * math.sin(pitch)
    down = -ahead * math.sin(pitch) - mount.z * math.cos(pitch)
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v = camera.fx * -left / forward + camera.cx, camera.fy * down / forward + camera.cy
        seen = np.isfinite(ranges_m) & (ranges_m > 0) & (forward > 0) & (forward <= farthest_m)
        seen &= (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    columns, rows = np.rint(u[seen]).astype(int), np.rint(v[seen]).astype(int)
    predicted, true = depth_m[rows, columns], forward[seen]
    known = np.isfinite(predicted) & (predicted > 0)
    if int(known.sum()) < 10:
        raise FrameError(f"{frame}: {int(known.sum())} beams of the scan end in the image, at least 10 expected")
    block = columns[known] * _BLOCKS**2 // (width * 2)
    return Readings(frame, true[known], predicted[known], block)


def _ray_length(point: KnownPoint, camera: Intrinsics | None) -> float:
    """Length of the ray through a pixel per metre of z."""
    if camera is None:
        raise DepthScaleError(
            "Distances along the ray need the camera: give --intrinsics fx,fy,cx,cy, or measure along z with --along z."
        )
    x, y = (point.u - camera.cx) / camera.fx, (point.v - camera.cy) / camera.fy
    return math.sqrt(1.0 + x * x + y * y)
