"""The plane of the floor in one frame: a robust fit to the points that class and normal call floor.

A relation between kinds, for robots: what stands on the floor is an obstacle (`obstacles.py`). The camera frame is x right,
y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from edge_mtl.image.frames import Intrinsics
from edge_mtl.image.geometry import points_of_depth
from edge_mtl.tasks.labels import LabelMap
from edge_mtl.tasks.points import CloudMaps

__all__ = ["FloorPlane", "class_mask", "find_floor", "thinned", "thinned_points"]

Array = np.ndarray
Vector = tuple[float, float, float]

AGREEMENT = 0.06
"""A point is on the plane where its depth differs from the plane's by less than this, relatively. A point at the height h
over the floor, seen from the height H, is nearer than the floor behind it by h / H at every distance: this is also the
largest height of an inlier, in heights of the camera."""
MOST_TILT_DEG = 60.0
"""Between the floor's normal and the image's upwards."""
_FEWEST, _LEAST_SHARE = 30, 0.01
"""Points that a floor has at least, and their share of the points looked at."""
_HYPOTHESES, _VOTERS, _REFINEMENTS = 400, 800, 4
_UPRIGHT = math.cos(math.radians(MOST_TILT_DEG))


@dataclass(frozen=True, slots=True)
class FloorPlane:
    """Where the floor is in the camera frame.

    Attributes:
        up: its normal, a unit vector.
        height_m: of the camera above it.
    """

    up: Vector
    height_m: float

    @classmethod
    def of_mount(cls, *, height_m: float, pitch_deg: float) -> FloorPlane:
        """Of a camera without roll that is `height_m` above the floor and looks `pitch_deg` downwards."""
        pitch = math.radians(pitch_deg)
        return cls((0.0, -math.cos(pitch), -math.sin(pitch)), height_m)

    @property
    def pitch_deg(self) -> float:
        """How far the camera looks downwards."""
        return math.degrees(math.asin(max(-1.0, min(1.0, -self.up[2]))))

    def heights_m(self, points: Array) -> Array:
        """How far (..., 3) points are above the floor."""
        return points @ np.asarray(self.up, points.dtype) + points.dtype.type(self.height_m)


def find_floor(
    maps: CloudMaps, camera: Intrinsics, *, classes: Collection[str], stride: int, up: Vector | None = None
) -> FloorPlane | None:
    """The plane of the floor, or None where too little of it is seen.

    Candidates are the points of the classes, where the labels have any of them, that face upwards, where there are normals. The
    plane's normal is `up`, else the median of the candidates' normals, else that of a plane fitted to them; its distance is
    the one that most candidates agree on, less those that would lie below it, because nothing lies below a floor: of a
    floor and a table that is taken for one, it is the floor. Nearer candidates count more, as the robot stands on their
    plane: a ramp ahead does not tilt it.

    Args:
        maps: depth, and labels and normals where the bundle has them.
        camera: of the maps, in their pixels.
        classes: names of floors, in any case.
        stride: every so many pixels, in both directions, are looked at.
        up: the floor's normal, a unit vector, where it is known.
    """
    points = thinned_points(maps, camera, stride=stride)
    chosen = np.isfinite(points[..., 2]) & (points[..., 2] > 0)
    fewest = max(_FEWEST, _LEAST_SHARE * chosen.size)
    floors = class_mask(maps.labels, classes, stride=stride)
    if floors is not None:
        chosen &= floors
    facing = None if maps.normals is None else thinned(maps.normals.normals, stride)
    if facing is not None:
        chosen &= facing[..., 1] < -_UPRIGHT
    candidates = points[chosen].astype(np.float64)
    if len(candidates) < fewest:
        return None
    voting = _nearer_more_often(candidates[:, 2])
    share, voters = fewest / len(candidates), candidates[voting]
    normals = None if facing is None or up is not None else facing[chosen][voting]
    if up is not None:
        normal = np.asarray(up)
    elif normals is not None:
        normal = _median_direction(normals)
    else:
        fitted = _fitted_normal(voters, share=share)
        if fitted is None:
            return None
        normal = fitted
    height, on_plane = _height(voters, normal)
    if normals is not None and on_plane.any():
        normal = _median_direction(normals[on_plane])
        height, on_plane = _height(voters, normal)
    if on_plane.mean() < share:
        return None
    x, y, z = (float(value) for value in normal)
    return FloorPlane((x, y, z), height)


def class_mask(labels: LabelMap | None, names: Collection[str], *, stride: int) -> Array | None:
    """Where thinned labels are of classes with these names, in any case; None where the labels have no such class."""
    if labels is None:
        return None
    wanted = {name.casefold() for name in names}
    table = np.zeros(256, bool)
    table[[index for index, name in enumerate(labels.classes) if name.casefold() in wanted]] = True
    return table[thinned(labels.labels, stride)] if table.any() else None


def thinned(values: Array, stride: int) -> Array:
    """Every `stride`-th row and column of a map, from the middle of the first block; a view."""
    first = (stride - 1) // 2
    return values[first::stride, first::stride]


def thinned_points(maps: CloudMaps, camera: Intrinsics, *, stride: int) -> Array:
    """(H / stride, W / stride, 3) float32 metres in the camera frame; NaN where the depth is unknown."""
    first = (stride - 1) // 2
    of_thinned = Intrinsics(camera.fx / stride, camera.fy / stride, (camera.cx - first) / stride, (camera.cy - first) / stride)
    return points_of_depth(thinned(maps.depth.depth_m, stride), of_thinned)


def _nearer_more_often(depth_m: Array) -> Array:
    """Indices of some of (N,) points, each drawn in proportion to one over its depth, at even steps and not at random."""
    cumulative = np.cumsum(1.0 / depth_m)
    count = min(len(depth_m), _VOTERS)
    drawn: Array = np.searchsorted(cumulative, (np.arange(count) + 0.5) / count * cumulative[-1])
    return drawn


def _median_direction(normals: Array) -> Array:
    """(3,) float64 unit: of a majority of (N, 3) normals, whatever the others are."""
    median = np.median(normals, axis=0).astype(np.float64)
    unit: Array = median / np.linalg.norm(median)
    return unit


def _height(points: Array, up: Array) -> tuple[float, Array]:
    """The camera's height above the plane with this normal that most points agree on, and (N,) bool which of them do."""
    below_camera = -(points @ up)
    tried = np.quantile(below_camera, np.linspace(0.0, 1.0, 101))
    ratios = below_camera[:, None] / np.maximum(tried, 1e-6)
    votes = (np.abs(ratios - 1.0) < AGREEMENT).sum(axis=0) - (ratios > 1.0 + AGREEMENT).sum(axis=0)
    height = max(float(tried[int(votes.argmax())]), 1e-6)
    on_plane = np.abs(below_camera / height - 1.0) < AGREEMENT
    if on_plane.any():
        height = float(np.median(below_camera[on_plane]))
    return height, on_plane & (height > 0)


def _fitted_normal(points: Array, *, share: float) -> Array | None:
    """(3,) float64 unit normal of the floor among (N, 3) points, of which it has `share` at least; None where there is none.

    RANSAC over planes through three points (Fischler & Bolles 1981, with a fixed seed), then least squares, reweighted with
    Tukey's weights. A plane is written as m with m . p = -1: m . p + 1 is the height of p above it, in heights of the camera.
    """
    random = np.random.default_rng(0)
    first, second, third = points[random.integers(0, len(points), (3, _HYPOTHESES))]
    normals = np.cross(second - first, third - first)
    distances = (normals * first).sum(axis=1)
    possible = np.abs(distances) > 1e-9
    planes = -normals[possible] / distances[possible, None]
    planes = planes[-planes[:, 1] > _UPRIGHT * np.linalg.norm(planes, axis=1)]
    if not len(planes):
        return None
    heights = planes @ points.T + 1.0
    votes = (np.abs(heights) < AGREEMENT).sum(axis=1) - (heights < -AGREEMENT).sum(axis=1)
    plane = planes[int(votes.argmax())]
    for _ in range(_REFINEMENTS):
        ratio = (points @ plane + 1.0) / AGREEMENT
        near = np.abs(ratio) < 1.0
        if near.mean() < share:
            return None
        weighted = points[near] * ((1.0 - ratio[near] ** 2) ** 2)[:, None]
        try:
            plane = np.linalg.solve(weighted.T @ points[near], -weighted.sum(axis=0))
        except np.linalg.LinAlgError:  # all on one line
            return None
    length = float(np.linalg.norm(plane))
    return plane / length if -plane[1] > _UPRIGHT * length else None
