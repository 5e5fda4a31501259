"""Who walks and rides: people of ellipsoids, in many clothes."""

from __future__ import annotations

import numpy as np

from mtl.datasets.worlds.materials import Rng
from mtl.datasets.worlds.shapes import Shape, block, ellipsoid, leaning

from . import street_materials as mat
from .classes import Label

__all__ = ["pedestrian", "rider"]


def pedestrian(rng: Rng) -> tuple[Shape, ...]:
    """Somebody who stands or walks, front towards -y."""
    height = float(rng.normal(1.71, 0.09)) if rng.random() < 0.88 else float(rng.uniform(1.0, 1.4))
    k, label = height / 1.72, Label.PERSON
    skin, shirt, trousers, hair = (
        mat.skin(rng),
        mat.cloth(rng),
        mat.cloth(rng),
        mat.bark(rng).shaded(float(rng.uniform(0.2, 1.4))),
    )
    stride, swing = float(rng.uniform(0, 0.42)), float(rng.uniform(0, 0.5))
    skirt = rng.random() < 0.15
    shapes = [
        ellipsoid(label, shirt, (0, 0, 1.15 * k), (0.21 * k, 0.14 * k, 0.33 * k)),
        ellipsoid(label, trousers, (0, 0, 0.9 * k), (0.19 * k, 0.14 * k, (0.3 if skirt else 0.17) * k)),
        ellipsoid(label, skin, (0, -0.01, 1.58 * k), (0.085 * k, 0.1 * k, 0.125 * k)),
        ellipsoid(label, hair, (0, 0.02, 1.63 * k), (0.095 * k, 0.105 * k, 0.1 * k)),
    ]
    for side in (-1, 1):
        leg, arm = side * stride, -side * swing
        shapes.append(_limb(label, trousers, side * 0.09 * k, 0.87 * k, 0.46 * k, 0.085 * k, leg))
        shapes.append(_limb(label, shirt, side * 0.25 * k, 1.36 * k, 0.3 * k, 0.055 * k, arm))
    if rng.random() < 0.3:
        bag = mat.cloth(rng)
        shapes.append(block(label, bag, (0, 0.18 * k, 1.2 * k), (0.14 * k, 0.08 * k, 0.2 * k)))
    return tuple(shapes)


def _limb(label: Label, material: mat.Material, x: float, top: float, half: float, radius: float, swing: float) -> Shape:
    """An arm or a leg that hangs from (x, 0, top) and swings about it."""
    tilt = leaning(swing)
    down = tilt @ np.array([0.0, 0.0, -half], np.float32)
    return ellipsoid(label, material, (x, float(down[1]), top + float(down[2])), (radius, radius, half), tilt)


def rider(rng: Rng, *, upright: bool) -> tuple[Shape, ...]:
    """Who sits on a bicycle, or on a motorcycle with a helmet."""
    label = Label.RIDER
    shirt, trousers, skin = mat.cloth(rng), mat.cloth(rng), mat.skin(rng)
    helmet = mat.lacquer(rng) if not upright or rng.random() < 0.5 else mat.bark(rng)
    lean = 0.25 if upright else 0.45
    seat = (0.26, 0.98) if upright else (0.3, 0.86)
    shapes = [
        ellipsoid(label, shirt, (0, seat[0] - 0.28 * lean * 1.6, seat[1] + 0.3), (0.2, 0.15, 0.36), leaning(lean)),
        ellipsoid(label, skin, (0, seat[0] - 0.34 * lean * 2.2 - 0.04, seat[1] + 0.7), (0.09, 0.1, 0.12)),
        ellipsoid(label, helmet, (0, seat[0] - 0.34 * lean * 2.2, seat[1] + 0.76), (0.115, 0.135, 0.11)),
    ]
    for side in (-1, 1):
        reach = 0.28 * float(rng.uniform(0.5, 1.0))
        shapes.append(
            ellipsoid(
                label, trousers, (side * 0.12, seat[0] - 0.22, seat[1] - 0.12), (0.085, 0.28, 0.09), leaning(0.3 * side * reach)
            )
        )
        shapes.append(ellipsoid(label, trousers, (side * 0.14, seat[0] - 0.36, seat[1] - 0.42), (0.065, 0.075, 0.26)))
        shapes.append(ellipsoid(label, shirt, (side * 0.26, seat[0] - 0.42, seat[1] + 0.3), (0.055, 0.3, 0.06), leaning(0.5)))
    return tuple(shapes)
