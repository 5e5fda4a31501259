"""A furnished room as plain values: what the layout writes and the renderer reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtl.datasets.worlds.intersect import safe_inverse
from mtl.datasets.worlds.materials import Colour, Material
from mtl.datasets.worlds.shapes import Piece, Vector
from mtl.datasets.worlds.surfaces import Part
from mtl.datasets.worlds.textures import reflectance

from .labels import Label

# Surfaces of the empty room have negative numbers.
CEILING, FLOOR = -1, -2
FIRST_WALL = -3  # then -4, -5, -6: x = length, x = 0, y = width, y = 0
_NORMALS = {
    which: np.array(normal, np.float32)[:, None]
    for which, normal in {
        CEILING: (0, 0, -1), FLOOR: (0, 0, 1), FIRST_WALL: (-1, 0, 0), FIRST_WALL - 1: (1, 0, 0),
        FIRST_WALL - 2: (0, -1, 0), FIRST_WALL - 3: (0, 1, 0),
    }.items()
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shell:
    """The empty box: x in 0..length, y in 0..width, z in 0..height, and what its sides are made of.

    Walls are in the order x = length, x = 0, y = width, y = 0.
    """

    size_m: Vector
    floor: Material
    ceiling: Material
    walls: tuple[Material, Material, Material, Material]
    skirting: Material
    skirting_m: float

    def hit(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the empty room's sides, and which one: the rays start inside."""
        size = np.asarray(self.size_m, np.float32).reshape((3,) + (1,) * (directions.ndim - 1))
        inverse = safe_inverse(directions)
        along = np.where(inverse > 0, size - origin, -origin) * inverse
        first_x, first_z = along[0] < along[1], along[2] <= np.minimum(along[0], along[1])
        wall = np.where(
            first_x,
            np.where(directions[0] > 0, FIRST_WALL, FIRST_WALL - 1),
            np.where(directions[1] > 0, FIRST_WALL - 2, FIRST_WALL - 3),
        )
        surface = np.where(first_z, np.where(directions[2] > 0, CEILING, FLOOR), wall).astype(np.int32)
        return along.min(0).astype(np.float32), surface

    def part(self, which: int, points: np.ndarray, directions: np.ndarray, pixel_m: np.ndarray) -> Part:
        """What one side looks like, see `surfaces_seen`."""
        material, albedo, label = self._painted(which, points, pixel_m)
        return Part(_NORMALS[which], albedo, int(label), material.gloss, material.glow)

    def _painted(self, which: int, points: np.ndarray, pixel_m: np.ndarray) -> tuple[Material, np.ndarray, Label]:
        """Material, colour and class of points on one side of the empty room."""
        x, y, z = points
        if which == CEILING:
            return self.ceiling, reflectance(self.ceiling, x, y, pixel_m), Label.CEILING
        if which == FLOOR:
            return self.floor, reflectance(self.floor, x, y, pixel_m), Label.FLOOR
        wall = self.walls[FIRST_WALL - which]
        along = y if which >= FIRST_WALL - 1 else x
        colour = reflectance(wall, along, z, pixel_m)
        low = z < self.skirting_m
        if low.any():
            colour[:, low] = reflectance(self.skirting, z[low], along[low], pixel_m[low])
        return wall, colour, Label.WALL


@dataclass(frozen=True, slots=True)
class Light:
    """A round lamp of `radius_m`; `power` is the irradiance at the lamp's distance zero, per channel."""

    position_m: Vector
    radius_m: float
    power: Colour


@dataclass(frozen=True, slots=True)
class Footprint:
    """An axis-aligned rectangle of floor that is taken, up to `height_m`."""

    x: float
    y: float
    width_m: float
    depth_m: float
    height_m: float

    def overlaps(self, other: Footprint, gap_m: float = 0.0) -> bool:
        return (
            abs(self.x - other.x) < (self.width_m + other.width_m) / 2 + gap_m
            and abs(self.y - other.y) < (self.depth_m + other.depth_m) / 2 + gap_m
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything there is to see, and the light to see it by."""

    kind: str
    shell: Shell
    pieces: tuple[Piece, ...]
    footprints: tuple[Footprint, ...]
    lights: tuple[Light, ...]
    ambient: float
