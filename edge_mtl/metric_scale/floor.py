"""The height of the camera over the floor as predicted: a plane through the floor's points, and whether it is one.

Knows maps and the camera. The inverse depth of a plane is linear in the pixels, 1 / z = n.(x, y, 1) / h, where n points from
the camera into the floor and h is the height.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.metric_scale.estimate import Readings

__all__ = ["FloorPlane", "fit_floor", "of_height", "of_mount"]

Array = np.ndarray

_MOST, _FEWEST_SHARE = 20_000, 0.02
_TRIES, _NEAR = 200, 0.06
"""Planes that are tried, and the relative misfit of a depth that a plane explains."""
_EXPLAINED = 0.6
_ROLL_MAX, _DOWN_MIN = math.sin(math.radians(30.0)), math.sin(math.radians(10.0))
"""A floor is to the left as to the right, within 30 degrees, and the camera does not look straight down at it."""
_TILT_MAX_DEG = 15.0
_DEPTH_SPAN = 1.15


@dataclass(frozen=True, slots=True, eq=False)
class FloorPlane:
    """A floor.

    Attributes:
        normal: (3,) float64 unit, from the camera into the floor.
        height_m: of the camera over it, as predicted.
        rows, columns: (N,) pixels that it explains.
        heights_m: (N,) of the camera over the points of each of them.
        explained: share of the floor's pixels that are these.
    """

    normal: Array
    height_m: float
    rows: Array
    columns: Array
    heights_m: Array
    explained: float


def fit_floor(depth_m: Array, camera: Intrinsics, *, floor: Array | None, normals: Array | None) -> FloorPlane:
    """The plane through the floor.

    Args:
        depth_m: (H, W) predicted, NaN where unknown.
        camera: of the maps, in their pixels.
        floor: (H, W) bool, what the labels call floor; None without such a class: then the plane under the lower half.
        normals: (H, W, 3) predicted, to judge the plane by; None without them.
    Raises:
        FrameError: too little floor is seen, or the plane does not describe it.
    """
    height = depth_m.shape[0]
    known = np.isfinite(depth_m) & (depth_m > 0)
    if floor is None:
        known[: height // 2] = False
    else:
        known &= floor
    rows, columns = np.nonzero(known)
    share = rows.size / depth_m.size
    if share < _FEWEST_SHARE:
        raise FrameError(
            f"{100 * share:.1f} % of the image is floor, at least {100 * _FEWEST_SHARE:g} % expected: point the camera lower, "
            "or clear the floor"
        )
    step = max(1, math.ceil(rows.size / _MOST))
    rows, columns = rows[::step], columns[::step]
    rays = np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(rows.size)], axis=1)
    inverse = 1.0 / depth_m[rows, columns].astype(np.float64)
    plane, inside = _consensus(rays, inverse)
    explained = float(inside.mean())
    if explained < _EXPLAINED:
        raise FrameError(f"one plane explains {100 * explained:.0f} % of the floor, at least {100 * _EXPLAINED:g} % expected")
    length = float(np.linalg.norm(plane))
    normal = plane / length
    if normal[1] < _DOWN_MIN or abs(normal[0]) > _ROLL_MAX:
        tilt = math.degrees(math.atan2(float(normal[0]), float(normal[1])))
        raise FrameError(f"the plane that was fitted is not below the camera (rolled by {tilt:.0f} degrees): it is no floor")
    if normals is not None:
        _judge_by_normals(normals[rows[inside], columns[inside]], normal)
    else:
        near, far = np.percentile(inverse[inside], (95, 5))
        if near / far < _DEPTH_SPAN:
            raise FrameError("the floor that is seen is too short a strip to fit a plane to")
    heights = (rays[inside] @ normal) / inverse[inside]
    return FloorPlane(normal, 1.0 / length, rows[inside], columns[inside], heights, explained)


def of_height(frame: str, plane: FloorPlane, camera_height_m: float) -> Readings:
    """Readings of a known height: at each pixel of the floor the camera's height over that point, at most 4096.

    All of them rest on one plane, so the frame is one block: what is wrong with the plane is wrong with all.

    Args:
        camera_height_m: over the floor, along the plumb line.
    """
    step = max(1, math.ceil(plane.heights_m.size / 4096))
    heights = plane.heights_m[::step]
    return Readings(frame, np.full(heights.size, camera_height_m), heights, np.zeros(heights.size, int))


def of_mount(
    frame: str, depth_m: Array, camera: Intrinsics, *, floor: Array, camera_height_m: float, pitch_deg: float, farthest_m: float
) -> Readings:
    """Readings of a floor by a camera whose mount is known: nothing is fitted, the depth of each pixel of the floor is known.

    Args:
        depth_m: (H, W) predicted, NaN where unknown.
        camera: of the maps, in their pixels.
        floor: (H, W) bool, what the labels call floor.
        camera_height_m, pitch_deg: over the floor, and how far it looks down; it is not rolled.
        farthest_m: what the network was made for.
    Raises:
        FrameError: too little floor is seen.
    """
    height, width = depth_m.shape
    pitch = math.radians(pitch_deg)
    rows, columns = np.nonzero(floor & np.isfinite(depth_m) & (depth_m > 0))
    down = (rows - camera.cy) / camera.fy * math.cos(pitch) + math.sin(pitch)
    seen = down * farthest_m > camera_height_m
    rows, columns, down = rows[seen], columns[seen], down[seen]
    share = rows.size / depth_m.size
    if share < _FEWEST_SHARE:
        raise FrameError(
            f"{100 * share:.1f} % of the image is floor within {farthest_m:g} m, at least {100 * _FEWEST_SHARE:g} % expected: "
            "point the camera lower, or clear the floor"
        )
    every = slice(None, None, max(1, math.ceil(rows.size / 4096)))
    rows, columns, down = rows[every], columns[every], down[every]
    return Readings(frame, camera_height_m / down, depth_m[rows, columns], rows * 4 // height * 4 + columns * 4 // width)


def _consensus(rays: Array, inverse: Array) -> tuple[Array, Array]:
    """((3,) plane, (N,) bool of what it explains): the best of many through three points, then fitted to what it explains."""
    random = np.random.default_rng(0)
    judged = random.choice(inverse.size, min(1000, inverse.size), replace=False)
    best, most = np.zeros(3), -1
    for _ in range(_TRIES):
        three = random.integers(0, inverse.size, 3)
        matrix = rays[three]
        if abs(np.linalg.det(matrix)) < 1e-6:
            continue
        plane = np.linalg.solve(matrix, inverse[three])
        if plane[1] < _DOWN_MIN * np.linalg.norm(plane):
            continue
        count = int((np.abs(rays[judged] @ plane / inverse[judged] - 1.0) < _NEAR).sum())
        if count > most:
            best, most = plane, count
    if most < 0:
        raise FrameError("no plane below the camera fits the floor")
    for _ in range(3):
        inside = np.abs(rays @ best / inverse - 1.0) < _NEAR
        if int(inside.sum()) < 3:
            break
        weights = 1.0 / inverse[inside]
        best = np.linalg.lstsq(rays[inside] * weights[:, None], np.ones(weights.size), rcond=None)[0]
    return best, np.abs(rays @ best / inverse - 1.0) < _NEAR


def _judge_by_normals(predicted: Array, normal: Array) -> None:
    """Raises FrameError where predicted normals, which face the camera, say that the plane lies otherwise."""
    known = np.isfinite(predicted).all(axis=1)
    if not known.any():
        return
    angles = np.degrees(np.arccos(np.clip(-(predicted[known] @ normal), -1.0, 1.0)))
    middle = float(np.median(angles))
    if middle > _TILT_MAX_DEG:
        raise FrameError(
            f"the plane of the floor's depth and the floor's normals are {middle:.0f} degrees apart, at most {_TILT_MAX_DEG:g} "
            "expected"
        )
