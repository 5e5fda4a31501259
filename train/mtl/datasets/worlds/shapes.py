"""Primitives that worlds are built of: boxes, upright cylinders and ellipsoids, and pieces made of them.

Coordinates are metres, z up. A piece has its own frame: origin on the ground in the middle of its
footprint, front towards -y. Labels are class indices of the world. Knows nothing about rays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from .materials import Material

Vector = tuple[float, float, float]


class Kind(IntEnum):
    """How a primitive is intersected."""

    BOX = 0
    CYLINDER = 1  # axis along its own z, radius half_m[0]
    ELLIPSOID = 2


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One primitive in the frame of its piece."""

    kind: Kind
    label: int
    material: Material
    centre_m: Vector
    half_m: Vector
    tilt: np.ndarray | None = None  # (3, 3) own axes to the frame of the piece; None is upright
    casts_shadow: bool = True

    def tilted(self, rotation: np.ndarray) -> Shape:
        """The same shape turned about its own centre."""
        return replace(self, tilt=rotation.astype(np.float32))

    def shadowless(self) -> Shape:
        """The same shape, left out when shadows are cast (small things, and lamps around a light)."""
        return replace(self, casts_shadow=False)

    def moved(self, x: float, y: float, z: float) -> Shape:
        cx, cy, cz = self.centre_m
        return replace(self, centre_m=(cx + x, cy + y, cz + z))

    def enlarged(self, factor: float) -> Shape:
        """The same shape as part of a piece that is larger by a factor."""
        x, y, z = self.centre_m
        a, b, c = self.half_m
        return replace(self, centre_m=(factor * x, factor * y, factor * z), half_m=(factor * a, factor * b, factor * c))

    def corners_m(self) -> np.ndarray:
        """(8, 3) float32 corners of the bounding box along the shape's own axes."""
        corners = _UNIT_CORNERS * np.asarray(self.half_m, np.float32)
        if self.tilt is not None:
            corners = rotated(self.tilt, corners.T).T
        return corners + np.asarray(self.centre_m, np.float32)


_UNIT_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)


@dataclass(frozen=True, slots=True)
class Item:
    """A piece not yet placed: shapes in its own frame and the room it needs."""

    name: str
    shapes: tuple[Shape, ...]
    width_m: float
    depth_m: float
    height_m: float


@dataclass(frozen=True, slots=True)
class Piece:
    """Shapes placed in the world: turned by `yaw_rad` about z, then moved to `position_m`."""

    name: str
    shapes: tuple[Shape, ...]
    position_m: Vector
    yaw_rad: float


def rotated(rotation: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """`rotation @ vectors` for (3, ...) arrays, written out: the same bits with any BLAS and thread count."""
    x, y, z = vectors
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in rotation])


def box(label: int, material: Material, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> Shape:
    """A box from its extents along each axis."""
    centre = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (z[0] + z[1]) / 2)
    half = ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2, (z[1] - z[0]) / 2)
    return Shape(Kind.BOX, label, material, centre, half)


def block(label: int, material: Material, centre: Vector, half: Vector, tilt: np.ndarray | None = None) -> Shape:
    """A box from its centre and half sizes, possibly tilted."""
    return Shape(Kind.BOX, label, material, centre, half, tilt)


def cylinder(label: int, material: Material, x: float, y: float, z: tuple[float, float], radius: float) -> Shape:
    """An upright cylinder standing between two heights."""
    return Shape(Kind.CYLINDER, label, material, (x, y, (z[0] + z[1]) / 2), (radius, radius, (z[1] - z[0]) / 2))


def ellipsoid(label: int, material: Material, centre: Vector, radii: Vector, tilt: np.ndarray | None = None) -> Shape:
    return Shape(Kind.ELLIPSOID, label, material, centre, radii, tilt)


def turned(yaw_rad: float) -> np.ndarray:
    """Rotation about z."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


def leaning(angle_rad: float) -> np.ndarray:
    """Rotation about x: a positive angle leans the top towards the front."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)


def shifted(shapes: Iterable[Shape], x: float, y: float, z: float) -> list[Shape]:
    return [shape.moved(x, y, z) for shape in shapes]
