"""What stands on the floor, and what is free: obstacle points, floor points and a planar scan of one frame.

A relation between kinds, for costmaps. Heights decide: a patch of floor with a wrong class is no obstacle, and what stands
above the floor is one whatever its class. Classes and normals find the floor (`floor.py`), and where both call a point
floor, depth may be a little off. The camera frame is x right, y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks.floor import FloorPlane, class_mask, thinned, thinned_points
from edge_mtl.tasks.points import CloudMaps

__all__ = ["ObstacleLimits", "PlanarScan", "Surroundings", "level_axes", "planar_scan", "surroundings"]

Array = np.ndarray
_LEVEL = FloorPlane.of_mount(height_m=0.0, pitch_deg=0.0)
"""How a camera is taken to be where no floor is known."""
_FLAT = math.cos(math.radians(25.0))
"""A normal nearer than this to the floor's is the floor's."""
_COLUMNS_PER_RAY = 1.5
"""Width of a ray of the scan, in thinned columns at the middle of the image: above 1, so that no ray falls between two
columns."""


@dataclass(frozen=True, slots=True)
class ObstacleLimits:
    """What counts.

    Attributes:
        min_height_m, max_height_m: an obstacle is between them, above the floor.
        range_m: along the floor, from the camera.
        stride: every so many pixels, in both directions, make a point.
        tolerance: a point whose class and normal are the floor's is no obstacle below this height either, in heights of the
            camera: the relative error of depth that is let pass.
    """

    min_height_m: float = 0.1
    max_height_m: float = 2.0
    range_m: float = 3.0
    stride: int = 4
    tolerance: float = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """The points of one frame and what they are; N are known.

    Attributes:
        points: (N, 3) float32 metres, camera frame.
        ahead_m, left_m: (N,) float32 along the floor, from the camera.
        obstacle: (N,) bool: stands on the floor, within the limits.
        floor: (N,) bool: is the floor, within the limits; nowhere where no floor is known.
        passed: (N,) bool: seen beyond the range, not above the limits, so that nothing is in between.
        axes: (3, 3) rows are ahead, left and up in the camera frame.
    """

    points: Array
    ahead_m: Array
    left_m: Array
    obstacle: Array
    floor: Array
    passed: Array
    axes: Array


@dataclass(frozen=True, slots=True, eq=False)
class PlanarScan:
    """Distances to the nearest obstacle at any height, as of a laser scanner at the camera whose plane is that of the floor.

    Attributes:
        angle_min_rad, angle_step_rad: of the first ray, and between two; positive to the left, 0 is ahead.
        ranges_m: (R,) float32; inf where nothing is up to the range limit, NaN where that far is not seen.
    """

    angle_min_rad: float
    angle_step_rad: float
    ranges_m: Array


def surroundings(
    maps: CloudMaps,
    camera: Intrinsics,
    floor: FloorPlane | None,
    *,
    scale: float = 1.0,
    limits: ObstacleLimits,
    floor_classes: Collection[str],
    ceiling_classes: Collection[str],
) -> Surroundings:
    """What the points of a frame are.

    With a floor, heights decide; a ceiling's class counts above the camera only. Without one the camera is taken to be
    level, and all that is of no floor's and no ceiling's class is an obstacle, at whatever height: a robot in front of a
    wall sees no floor.

    Args:
        maps: depth, and labels where the bundle has them.
        camera: of the maps, in their pixels.
        floor: of this frame, after `scale`; None where it is not known.
        scale: what depth is multiplied by.
        limits: what counts.
        floor_classes, ceiling_classes: names, in any case.
    """
    grid = thinned_points(maps, camera, stride=limits.stride)
    known = np.isfinite(grid[..., 2]) & (grid[..., 2] > 0)
    points = grid[known] * np.float32(scale)
    floor_class = _of_classes(maps, floor_classes, known, stride=limits.stride)
    ceiling = _of_classes(maps, ceiling_classes, known, stride=limits.stride)
    axes = level_axes(floor)
    ahead, left = points @ axes[0], points @ axes[1]
    distance = np.hypot(ahead, left)
    near = distance <= limits.range_m
    if floor is None:
        flat = np.zeros(len(points), bool)
        obstacle = ~ceiling & ~floor_class
        low = ~ceiling
    else:
        height = floor.heights_m(points)
        ceiling &= height > floor.height_m
        least = np.full(len(points), limits.min_height_m, np.float32)
        if maps.normals is not None:
            facing = thinned(maps.normals.normals, limits.stride)[known] @ axes[2]
            least[floor_class & (facing > _FLAT)] = max(limits.min_height_m, limits.tolerance * floor.height_m)
        flat = np.abs(height) < least
        low = (height <= limits.max_height_m) & ~ceiling
        obstacle = low & (height >= least)
    return Surroundings(points, ahead, left, obstacle & near, flat & near, low & ~near, axes)


def level_axes(floor: FloorPlane | None) -> Array:
    """(3, 3) float32: rows are ahead along the floor, left and up, in the camera frame; of a level camera where none is
    known."""
    up = np.asarray((floor or _LEVEL).up)
    ahead = np.array([0.0, 0.0, 1.0]) - up[2] * up
    ahead /= np.linalg.norm(ahead)
    return np.stack([ahead, np.cross(up, ahead), up]).astype(np.float32)


def planar_scan(seen: Surroundings, camera: Intrinsics, width: int, *, limits: ObstacleLimits) -> PlanarScan:
    """The scan of a frame, over the field of view of its camera; its rays are the same for every frame of a camera.

    Args:
        seen: of `surroundings`.
        camera: of the maps, in their pixels.
        width: of the maps, in pixels.
        limits: those of `seen`.
    """
    right, left = math.atan2(width - 1 - camera.cx, camera.fx), math.atan2(camera.cx, camera.fx)
    step = _COLUMNS_PER_RAY * limits.stride / camera.fx
    count = max(1, math.floor((left + right) / step) + 1)
    ray = np.rint((np.arctan2(seen.left_m, seen.ahead_m) + right) / step)
    inside = (ray >= 0) & (ray < count) & (seen.ahead_m > 0)
    ranges = np.full(count, np.nan, np.float32)
    ranges[ray[inside & seen.passed].astype(np.intp)] = np.inf
    hit = np.flatnonzero(inside & seen.obstacle)
    distance = np.hypot(seen.ahead_m[hit], seen.left_m[hit])
    farthest_first = np.argsort(-distance)
    ranges[ray[hit[farthest_first]].astype(np.intp)] = distance[farthest_first]  # of equal indices the last is kept
    return PlanarScan(-right, step, ranges)


def _of_classes(maps: CloudMaps, names: Collection[str], known: Array, *, stride: int) -> Array:
    """(N,) bool: which of the known points are of these classes."""
    mask = class_mask(maps.labels, names, stride=stride)
    return np.zeros(int(known.sum()), bool) if mask is None else mask[known]
