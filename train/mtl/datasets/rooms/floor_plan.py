"""Floor plans of rooms, from the shapes themselves, and tours through what is free. NumPy only.

A plan is (rows, columns) with y along the rows and x along the columns, as nav_msgs/OccupancyGrid has it; its first cell begins
at (-cell_m, -cell_m): the room has one row of cells of wall around it.
"""

from __future__ import annotations

import math

import numpy as np

from mtl.datasets.worlds.camera import Pose, look
from mtl.datasets.worlds.casting import PlacedPiece
from mtl.datasets.worlds.shapes import Kind, Shape, rotated

from .render import Room

__all__ = ["cells_of", "free_places", "occupied_cells", "tour"]

_FINE_M = 0.02
"""Distance between the places where shapes are looked for, in all directions: thinner things may be missed."""


def occupied_cells(room: Room, *, low_m: float, high_m: float, cell_m: float) -> np.ndarray:
    """(rows, columns) bool: cells that hold something between two heights, and those of the walls."""
    length, width, _ = room.scene.shell.size_m
    shape = (math.ceil(width / cell_m) + 2, math.ceil(length / cell_m) + 2)
    plan = np.ones(shape, bool)
    plan[1:-1, 1:-1] = False
    heights = np.arange(low_m, high_m + 1e-6, _FINE_M, dtype=np.float32)
    for piece in room.caster.pieces:
        for number, solid in enumerate(piece.shapes):
            corners = piece.corners_m[number]
            x, y = (np.arange(corners[:, axis].min(), corners[:, axis].max() + _FINE_M, _FINE_M) for axis in (0, 1))
            z = heights[(heights >= corners[:, 2].min()) & (heights <= corners[:, 2].max())]
            if not len(z):
                continue
            places = np.stack(np.meshgrid(x, y, z, indexing="ij")).reshape(3, -1).astype(np.float32)
            held = _inside(piece, solid, places)
            rows, columns = cells_of(places[0, held], places[1, held], cell_m=cell_m)
            on_plan = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
            plan[rows[on_plan], columns[on_plan]] = True
    return plan


def cells_of(x_m: np.ndarray, y_m: np.ndarray, *, cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of places in the room; outside the plan they are negative or too large."""
    return np.floor(y_m / cell_m).astype(np.int64) + 1, np.floor(x_m / cell_m).astype(np.int64) + 1


def free_places(room: Room, *, clearance_m: float, cell_m: float = 0.1) -> np.ndarray:
    """(N, 2) float64 x, y: middles of cells with nothing, up to a person's height, nearer than `clearance_m`."""
    taken = occupied_cells(room, low_m=0.02, high_m=1.9, cell_m=cell_m)
    rows, columns = np.nonzero(~taken)
    own = np.stack([(columns - 0.5) * cell_m, (rows - 0.5) * cell_m], 1)
    rows, columns = np.nonzero(taken)
    others = np.stack([(columns - 0.5) * cell_m, (rows - 0.5) * cell_m], 1)
    nearest = np.sqrt(((own[:, None] - others[None]) ** 2).sum(2)).min(1)
    return own[nearest >= clearance_m]


def tour(
    room: Room, *, stops: int, turns: int, height_m: float, pitch_rad: float, clearance_m: float = 0.3
) -> tuple[Pose, ...]:
    """Poses of a camera that is driven from stop to stop, as far from each other as can be, and turned about at each.

    Args:
        turns: views at each stop, in equal angles.
        height_m, pitch_rad: of the camera; a positive pitch looks up.
    """
    places = free_places(room, clearance_m=clearance_m)
    if not len(places):
        raise ValueError(f"a room with {clearance_m:g} m of free floor around some place was expected; {room.seed} has none")
    chosen = [places[((places - places.mean(0)) ** 2).sum(1).argmin()]]
    while len(chosen) < stops:
        chosen.append(places[np.min([((places - other) ** 2).sum(1) for other in chosen], 0).argmax()])
    way = [chosen.pop(0)]
    while chosen:
        way.append(chosen.pop(int(np.argmin([((place - way[-1]) ** 2).sum() for place in chosen]))))
    yaws = [2 * math.pi * turn / turns for turn in range(turns)]
    return tuple(look((float(x), float(y), height_m), yaw, pitch_rad, 0.0) for x, y in way for yaw in yaws)


def _inside(piece: PlacedPiece, shape: Shape, places: np.ndarray) -> np.ndarray:
    """Whether (3, N) places in the room are inside one shape of a piece."""
    local = piece.local_point(places) - np.asarray(shape.centre_m, np.float32)[:, None]
    if shape.tilt is not None:
        local = rotated(shape.tilt.T, local)
    ratio = local / np.asarray(shape.half_m, np.float32)[:, None]
    if shape.kind == Kind.BOX:
        return np.abs(ratio).max(0) <= 1
    if shape.kind == Kind.CYLINDER:
        return (ratio[0] ** 2 + ratio[1] ** 2 <= 1) & (np.abs(ratio[2]) <= 1)
    return (ratio**2).sum(0) <= 1
