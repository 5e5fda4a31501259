"""What stands beside a road: poles, lamps, signs, traffic lights, trees, hedges, fences, houses. Their front is to -y."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mtl.datasets.worlds.materials import Colour, Rng
from mtl.datasets.worlds.shapes import Shape, block, box, cylinder, ellipsoid, leaning

from . import street_materials as mat
from .classes import Label
from .vehicles import disc

__all__ = [
    "LAMP_HEIGHT_M", "Sign", "barrier", "building", "bush", "fence", "gantry", "hedge", "house", "lamp_post", "pole", "sign",
    "traffic_light", "tree",
]  # fmt: skip

LAMP_HEIGHT_M = 7.0
_RED: Colour = (0.95, 0.06, 0.03)
_AMBER: Colour = (0.95, 0.55, 0.04)
_GREEN: Colour = (0.05, 0.85, 0.45)
_OFF: Colour = (0.03, 0.03, 0.03)
_LAMP: Colour = (1.0, 0.85, 0.6)


def pole(rng: Rng, height_m: float, radius_m: float = 0.05) -> tuple[Shape, ...]:
    return (cylinder(Label.POLE, mat.metal(rng), 0, 0, (0, height_m), radius_m),)


def lamp_post(rng: Rng, *, dark: bool) -> tuple[Shape, ...]:
    """A mast with an arm towards -y."""
    grey, arm = mat.metal(rng), float(rng.uniform(0.8, 2.0))
    lamp = mat.glow(_LAMP, 8.0 if dark else 0.0)
    return (
        cylinder(Label.POLE, grey, 0, 0, (0, LAMP_HEIGHT_M), 0.09),
        box(Label.POLE, grey, (-0.05, 0.05), (-arm, 0.0), (LAMP_HEIGHT_M - 0.1, LAMP_HEIGHT_M)),
        box(Label.POLE, lamp, (-0.12, 0.12), (-arm - 0.35, -arm + 0.25), (LAMP_HEIGHT_M - 0.18, LAMP_HEIGHT_M - 0.04)),
    )


Sign = Literal["stop", "limit", "ring", "warning", "parking", "guide"]


def sign(rng: Rng, kind: Sign, height_m: float, *, dark: bool) -> tuple[Shape, ...]:
    """The plate of a traffic sign, its middle at a height."""
    label, face, back = Label.TRAFFIC_SIGN, mat.sign_face(rng, kind=kind, dark=dark), mat.metal(rng)
    size = float(rng.uniform(0.3, 0.42))
    if kind in ("limit", "ring"):
        return (
            disc(label, face, 0, -0.02, height_m, size, 0.012).shadowless(),
            disc(label, back, 0, 0.0, height_m, size, 0.012),
        )
    if kind == "guide":
        half = (float(rng.uniform(0.5, 1.1)), 0.015, float(rng.uniform(0.25, 0.5)))
        return _plate(face, back, half, height_m, 0.0)
    return _plate(face, back, (size, 0.012, size), height_m, np.pi / 4 if kind in ("warning", "stop") else 0.0)


def _plate(
    face: mat.Material, back: mat.Material, half: tuple[float, float, float], height_m: float, turn: float
) -> tuple[Shape, ...]:
    tilt = None
    if turn:
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        tilt = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    return (
        block(Label.TRAFFIC_SIGN, face, (0, -0.025, height_m), half, tilt).shadowless(),
        block(Label.TRAFFIC_SIGN, back, (0, 0.0, height_m), half, tilt),
    )


def gantry(rng: Rng, width_m: float, *, dark: bool) -> tuple[list[Shape], list[tuple[Shape, ...]]]:
    """A bridge of signs over a motorway: its poles, and one group of shapes for each sign."""
    grey = mat.metal(rng)
    poles = [
        cylinder(Label.POLE, grey, -width_m / 2, 0, (0, 7.2), 0.16),
        cylinder(Label.POLE, grey, width_m / 2, 0, (0, 7.2), 0.16),
        box(Label.POLE, grey, (-width_m / 2, width_m / 2), (-0.12, 0.12), (6.7, 7.2)),
    ]
    signs: list[tuple[Shape, ...]] = []
    kind = str(rng.choice(["guide", "motorway"]))
    for x in np.linspace(-width_m * 0.3, width_m * 0.3, int(rng.integers(1, 4))).tolist():
        half = (float(rng.uniform(1.1, 1.9)), 0.03, float(rng.uniform(0.7, 1.2)))
        face = mat.sign_face(rng, kind=kind, dark=dark)
        signs.append((
            block(Label.TRAFFIC_SIGN, face, (x, -0.3, 6.4), half).shadowless(),
            block(Label.TRAFFIC_SIGN, grey, (x, -0.24, 6.4), half),
        ))  # fmt: skip
    return poles, signs


def traffic_light(rng: Rng, height_m: float, state: Literal["red", "amber", "green"], *, dark: bool) -> tuple[Shape, ...]:
    """A housing with three lamps, one of them lit; its middle is at a height."""
    label, black = Label.TRAFFIC_LIGHT, mat.plastic(rng)
    if rng.random() < 0.25:
        yellow = (0.75, 0.5, 0.05)
        black = mat.glow(yellow, 0.0)
    shapes = [box(label, black, (-0.17, 0.17), (-0.1, 0.1), (height_m - 0.5, height_m + 0.5))]
    lit = 3.0 if dark else 2.2
    for name, colour, dz in (("red", _RED, 0.31), ("amber", _AMBER, 0.0), ("green", _GREEN, -0.31)):
        lamp = mat.glow(colour, lit) if name == state else mat.glow(_OFF, 0.0)
        shapes.append(disc(label, lamp, 0, -0.11, height_m + dz, 0.11, 0.012).shadowless())
    if rng.random() < 0.4:
        shapes.append(box(label, black, (-0.28, 0.28), (0.09, 0.11), (height_m - 0.62, height_m + 0.62)))
    return tuple(shapes)


def tree(rng: Rng) -> tuple[Shape, ...]:
    """A trunk and a crown of a few ellipsoids, or a cone of them for a conifer."""
    label, leaves, trunk = Label.VEGETATION, mat.foliage(rng), mat.bark(rng)
    height = float(rng.uniform(4.0, 11.0))
    if rng.random() < 0.2:
        shapes = [cylinder(label, trunk, 0, 0, (0, height * 0.3), 0.13)]
        for step in range(4):
            z, radius = height * (0.25 + 0.2 * step), height * 0.2 * (1 - 0.2 * step)
            shapes.append(ellipsoid(label, leaves, (0, 0, z), (radius, radius, height * 0.18)))
        return tuple(shapes)
    bare = height * float(rng.uniform(0.25, 0.45))
    shapes = [cylinder(label, trunk, 0, 0, (0, bare + 0.8), float(rng.uniform(0.1, 0.28)))]
    radius = height * float(rng.uniform(0.2, 0.32))
    for _ in range(int(rng.integers(3, 7))):
        x, y = (float(rng.normal(0, radius * 0.45)) for _ in range(2))
        r = radius * float(rng.uniform(0.55, 1.0))
        z = bare + (height - bare) * float(rng.uniform(0.2, 0.8))
        shapes.append(ellipsoid(label, leaves.shaded(float(rng.uniform(0.8, 1.2))), (x, y, z), (r, r, r * 0.85)))
    return tuple(shapes)


def hedge(rng: Rng, length_m: float) -> tuple[Shape, ...]:
    height, depth = float(rng.uniform(0.6, 2.0)), float(rng.uniform(0.5, 1.0))
    leaves = mat.foliage(rng)
    return (box(Label.VEGETATION, leaves, (-length_m / 2, length_m / 2), (-depth / 2, depth / 2), (0, height)),)


def bush(rng: Rng) -> tuple[Shape, ...]:
    leaves, radius = mat.foliage(rng), float(rng.uniform(0.4, 1.2))
    return tuple(
        ellipsoid(Label.VEGETATION, leaves, (float(rng.normal(0, 0.4)), float(rng.normal(0, 0.4)), radius * 0.6), (radius,) * 3)
        for _ in range(int(rng.integers(1, 4)))
    )


def fence(rng: Rng, length_m: float) -> tuple[Shape, ...]:
    """Planks, or a guard rail on posts."""
    if rng.random() < 0.6:
        height = float(rng.uniform(0.8, 1.9))
        return (box(Label.FENCE, mat.planks(rng), (-length_m / 2, length_m / 2), (-0.03, 0.03), (0.05, height)),)
    grey = mat.metal(rng)
    shapes = [box(Label.FENCE, grey, (-length_m / 2, length_m / 2), (-0.04, 0.04), (0.45, 0.75))]
    for x in np.arange(-length_m / 2 + 0.5, length_m / 2, 2.5).tolist():
        shapes.append(box(Label.FENCE, grey, (x - 0.05, x + 0.05), (0.04, 0.12), (0, 0.7)))
    return tuple(shapes)


def barrier(rng: Rng, length_m: float) -> tuple[Shape, ...]:
    """A low wall of concrete or bricks."""
    height = float(rng.uniform(0.7, 1.1))
    face = mat.concrete(rng) if rng.random() < 0.8 else mat.brick(rng)
    return (box(Label.WALL, face, (-length_m / 2, length_m / 2), (-0.15, 0.15), (0, height)),)


def building(rng: Rng, width_m: float, depth_m: float, *, dark: bool) -> tuple[Shape, ...]:
    """A block of flats or offices; the street is at -y."""
    label, face = Label.BUILDING, mat.facade(rng, dark=dark)
    height = float(rng.uniform(6, 26))
    w, d = width_m / 2, depth_m / 2
    shapes = [box(label, face, (-w, w), (-d, d), (0, height))]
    if rng.random() < 0.6:
        base = mat.brick(rng) if rng.random() < 0.4 else mat.concrete(rng)
        shapes.append(box(label, base, (-w - 0.02, w + 0.02), (-d - 0.06, d), (0, float(rng.uniform(3.2, 4.2)))))
        shop, lit = mat.glass(rng), rng.random() < 0.5
        if dark and lit:
            shop = mat.glow((0.75, 0.65, 0.45), 0.7)
        for x in np.linspace(-w + 1.6, w - 1.6, max(1, int(width_m / 4))).tolist():
            shapes.append(box(label, shop, (x - 1.2, x + 1.2), (-d - 0.09, -d), (0.5, 2.7)).shadowless())
        if rng.random() < 0.4:
            awning = mat.cloth(rng)
            shapes.append(block(label, awning, (0, -d - 0.6, 3.1), (w * 0.8, 0.6, 0.05), leaning(0.35)))
    shapes.append(box(label, mat.roof(rng), (-w - 0.15, w + 0.15), (-d - 0.15, d + 0.15), (height, height + 0.3)))
    if rng.random() < 0.4:
        for z in np.arange(5.0, height - 1.5, 3.0).tolist():
            shapes.append(box(label, mat.concrete(rng), (-w * 0.5, w * 0.5), (-d - 0.9, -d), (z, z + 0.9)))
    return tuple(shapes)


def house(rng: Rng, *, dark: bool) -> tuple[Shape, ...]:
    """A detached house with a gable roof; the street is at -y."""
    label = Label.BUILDING
    face = mat.facade(rng, dark=dark) if rng.random() < 0.6 else (mat.brick(rng) if rng.random() < 0.5 else mat.concrete(rng))
    w, d, eaves = float(rng.uniform(4, 7)), float(rng.uniform(3.5, 5)), float(rng.uniform(2.8, 6.0))
    tiles, slope = mat.roof(rng), float(rng.uniform(0.45, 0.8))
    rise = d * float(np.tan(slope))
    reach = float(np.hypot(d, rise)) / 2 + 0.25
    pane, lit, door = mat.glass(rng), rng.random() < 0.6, mat.bark(rng)
    if dark and lit:
        pane = mat.glow((0.9, 0.7, 0.4), 0.5)
    shapes = [
        box(label, face, (-w, w), (-d, d), (0, eaves)),
        block(label, tiles, (0, -d / 2, eaves + rise / 2), (w + 0.3, reach, 0.1), leaning(slope)),
        block(label, tiles, (0, d / 2, eaves + rise / 2), (w + 0.3, reach, 0.1), leaning(-slope)),
        box(label, face, (-w, w), (-d * 0.5, d * 0.5), (eaves - 0.1, eaves + rise * 0.45)),
        box(label, face, (-w, w), (-d * 0.2, d * 0.2), (eaves - 0.1, eaves + rise * 0.75)),
        box(label, door, (-0.5, 0.5), (-d - 0.03, -d), (0, 2.1)).shadowless(),
    ]
    for x in (-w * 0.6, w * 0.6):
        shapes.append(box(label, pane, (x - 0.7, x + 0.7), (-d - 0.03, -d), (1.0, 2.3)).shadowless())
    if rng.random() < 0.4:
        side = float(rng.choice([-1.0, 1.0])) * (w + 1.6)
        shapes.append(box(label, face, (side - 1.6, side + 1.6), (-d * 0.6, d * 0.6), (0, 2.5)))
    return tuple(shapes)
