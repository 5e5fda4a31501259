"""A furnished room as plain values: what the layout writes and the renderer reads."""

from __future__ import annotations

from dataclasses import dataclass

from .materials import Colour, Material
from .shapes import Piece, Vector


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
