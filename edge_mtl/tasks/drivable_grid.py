"""The drivable area on the ground, as a grid of costs for planners: labels of one frame, seen from above.

A relation between labels, boxes and depth. Where a pixel lies on the ground follows from how the camera is mounted, not from
depth, which errs by a share of the distance; depth and boxes only say where something stands before the ground. What is hidden
or not seen is unknown, never free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from edge_mtl.image import VOID
from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks.floor import FloorPlane
from edge_mtl.tasks.labels import LabelMap
from edge_mtl.tasks.obstacles import level_axes

__all__ = ["BLOCKED", "UNKNOWN", "CameraPose", "CostGrid", "GridOptions", "drivable_grid"]

Array = np.ndarray
Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

UNKNOWN, BLOCKED = -1, 100
"""Costs of cells that are not seen, and of those that are seen and not drivable; 0 is free. As in nav_msgs/OccupancyGrid."""
_ALONG = 16
"""Rays along each side of the image that say how far a grid reaches."""
_SNAP = 10
"""Cells: a grid begins and ends at multiples of so many, so that a camera that shakes does not change its size."""
_FOOT_M = 0.5
"""How deep the foot of a box is, which blocks; what is hidden behind it is unknown."""
_CACHED = 8


@dataclass(frozen=True, slots=True)
class GridOptions:
    """What a grid shows.

    Attributes:
        costs: by class in any case, 0 free to 99; all other classes are blocked.
        range_m: along the ground, from the camera.
        resolution_m: side of a cell.
        tolerance: depth that is nearer than the ground by less than this share is the ground's; what stands on it is higher
            than this share of the camera's height.
    """

    costs: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"direct": 0, "alternative": 50}))
    range_m: float = 20.0
    resolution_m: float = 0.1
    tolerance: float = 0.2


@dataclass(frozen=True, slots=True)
class CameraPose:
    """Where a camera is in a frame whose z points upwards.

    Attributes:
        axes: rows are x, y and z of the frame in the camera's: right, down, forward.
        position_m: of the camera.
        ground_m: z of the ground.
    """

    axes: Matrix
    position_m: Vector
    ground_m: float = 0.0

    @classmethod
    def over(cls, floor: FloorPlane) -> CameraPose:
        """In the frame right below it: on the ground, x ahead, y left."""
        return cls.of(level_axes(floor).astype(np.float64), np.array([0.0, 0.0, floor.height_m]))

    @classmethod
    def of(cls, rotation: Array, position_m: Array, *, ground_m: float = 0.0) -> CameraPose:
        """From a (3, 3) rotation of camera vectors into the frame, and a (3,) position."""
        rows = [(float(a), float(b), float(c)) for a, b, c in rotation]
        x, y, z = (float(value) for value in position_m)
        return cls((rows[0], rows[1], rows[2]), (x, y, z), float(ground_m))

    @property
    def floor(self) -> FloorPlane:
        """The ground in the camera's frame."""
        return FloorPlane(self.axes[2], self.position_m[2] - self.ground_m)


@dataclass(frozen=True, slots=True, eq=False)
class CostGrid:
    """Costs of cells on the ground.

    Attributes:
        costs: (Y, X) int8, -1 unknown, 0 free to 100 blocked; row 0 is the least y, column 0 the least x.
        origin_m: x and y of the corner of the first cell.
        resolution_m: side of a cell.
        ground_m: z of the ground.
    """

    costs: Array
    origin_m: tuple[float, float]
    resolution_m: float
    ground_m: float = 0.0

    def points(self) -> Array:
        """(N, 4) float32: x, y, z and cost of the middles of the cells that are known."""
        rows, columns = np.nonzero(self.costs != UNKNOWN)
        x, y = (origin + (at + 0.5) * self.resolution_m for origin, at in zip(self.origin_m, (columns, rows), strict=True))
        found: Array = np.stack([x, y, np.full(len(rows), self.ground_m), self.costs[rows, columns]], 1).astype(np.float32)
        return found

    def emptied(self) -> CostGrid:
        """The same cells, all of them unknown."""
        return CostGrid(np.full_like(self.costs, UNKNOWN), self.origin_m, self.resolution_m, self.ground_m)


def drivable_grid(
    labels: LabelMap,
    camera: Intrinsics,
    pose: CameraPose,
    *,
    depth_m: Array | None = None,
    boxes: Array | None = None,
    options: GridOptions,
) -> CostGrid:
    """The costs of the cells that a camera sees.

    A cell has the cost of the class that its middle is labelled with. It is unknown where that pixel is void, where depth is
    unknown or nearer than the ground, and in boxes: there only the foot is blocked.

    Args:
        labels: of the drivable area.
        camera: in the pixels of the labels.
        pose: of the camera; nothing is seen from below the ground.
        depth_m: (H, W) metres along z, NaN where unknown; None where there is none.
        boxes: (N, 4) edges of what stands on the ground, in the same pixels; None where there are none.
        options: what the grid shows.
    """
    seen = _cells(camera, labels.labels.shape[0], labels.labels.shape[1], pose, options.range_m, options.resolution_m)
    costs = _table(labels, options.costs)[labels.labels[seen.row, seen.column]]
    if depth_m is not None:
        on_ground = depth_m[seen.row, seen.column] >= seen.depth_m * (1.0 - options.tolerance)
        costs[~on_ground] = UNKNOWN  # also where depth is NaN
    for box in () if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4):
        _stand(costs, box, seen, pose.floor, camera, len(labels.labels))
    grid = np.full(seen.shape, UNKNOWN, np.int8)
    grid.ravel()[seen.cell] = costs
    return CostGrid(grid, seen.origin_m, options.resolution_m, pose.ground_m)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The cells of a grid whose middles are in the image: their index, their pixel, and the ground's depth there."""

    shape: tuple[int, int]
    origin_m: tuple[float, float]
    cell: Array
    row: Array
    column: Array
    depth_m: Array


@lru_cache(maxsize=_CACHED)
def _cells(camera: Intrinsics, height: int, width: int, pose: CameraPose, range_m: float, resolution_m: float) -> _Seen:
    """Of a camera that does not move on its robot it is always the same."""
    axes, position = np.array(pose.axes), np.array(pose.position_m)
    (first_x, first_y), (last_x, last_y) = _extent(camera, (height, width), pose, range_m, resolution_m)
    x = (np.arange(first_x, last_x) + 0.5) * resolution_m
    y = (np.arange(first_y, last_y) + 0.5) * resolution_m
    shape = len(y), len(x)
    offsets = np.stack([*np.meshgrid(x - position[0], y - position[1]), np.full(shape, pose.ground_m - position[2])], axis=-1)
    points = (offsets @ axes).reshape(-1, 3)
    away = np.hypot(offsets[..., 0], offsets[..., 1]).ravel()
    cell = np.flatnonzero((points[:, 2] > 0) & (away <= range_m) & (position[2] > pose.ground_m))
    right, down, ahead = points[cell].T
    column, row = np.rint(right / ahead * camera.fx + camera.cx), np.rint(down / ahead * camera.fy + camera.cy)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    origin = float(first_x * resolution_m), float(first_y * resolution_m)
    at = row[inside].astype(np.intp), column[inside].astype(np.intp)
    return _Seen(shape, origin, cell[inside], *at, ahead[inside].astype(np.float32))


def _extent(
    camera: Intrinsics, size: tuple[int, int], pose: CameraPose, range_m: float, resolution_m: float
) -> tuple[Array, Array]:
    """(2,) int of the first cell, and of the one after the last, in x and y: around the camera and all that it may see."""
    height, width = size
    u, v = np.linspace(-0.5, width - 0.5, _ALONG), np.linspace(-0.5, height - 0.5, _ALONG)
    left, right, top, bottom = (np.full(_ALONG, end) for end in (u[0], u[-1], v[0], v[-1]))
    column, row = np.concatenate([u, u, left, right]), np.concatenate([top, bottom, v, v])
    rays = np.stack([(column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, np.ones(len(row))], axis=1)
    rays = rays @ np.array(pose.axes).T
    flat, above = np.hypot(rays[:, 0], rays[:, 1]), pose.position_m[2] - pose.ground_m
    steps = np.divide(above, -rays[:, 2], out=np.full(len(rays), math.inf), where=rays[:, 2] < -1e-9)
    reach = np.minimum(range_m / np.maximum(flat, 1e-9), steps)
    ends = np.concatenate([[[0.0, 0.0]], rays[:, :2] * reach[:, None]]) + np.array(pose.position_m[:2])
    block = _SNAP * resolution_m
    first, last = np.floor(ends.min(axis=0) / block), np.ceil(ends.max(axis=0) / block)
    return (first * _SNAP).astype(np.intp), (np.maximum(last, first + 1) * _SNAP).astype(np.intp)


def _table(labels: LabelMap, costs: Mapping[str, int]) -> Array:
    """(256,) int8, the cost of each label."""
    known = {name.casefold(): cost for name, cost in costs.items()}
    table = np.full(256, BLOCKED, np.int8)
    table[VOID] = UNKNOWN
    for index, name in enumerate(labels.classes):
        table[index] = known.get(name.casefold(), BLOCKED)
    return table


def _stand(costs: Array, box: Array, seen: _Seen, floor: FloorPlane, camera: Intrinsics, height: int) -> None:
    """Mark what a box hides as unknown and its foot as blocked, where that is in the image and on the ground."""
    left, top, right, bottom = box
    inside = (seen.column >= left) & (seen.column <= right) & (seen.row >= top) & (seen.row <= bottom)
    costs[inside] = UNKNOWN
    ray = np.array([((left + right) / 2 - camera.cx) / camera.fx, (bottom - camera.cy) / camera.fy, 1.0])
    down = -float(ray @ np.array(floor.up))
    if down > 1e-9 and bottom < height - 1:
        costs[inside & (seen.depth_m <= floor.height_m / down + _FOOT_M)] = BLOCKED
