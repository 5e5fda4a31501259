"""What hangs on walls: windows with curtains, pictures, doors, televisions, shelves of books.

Each function draws an `Item` whose back is the plane y = 0 and whose heights are above the floor.
"""

from __future__ import annotations

import numpy as np

from mtl.datasets.worlds.materials import Material, Rng
from mtl.datasets.worlds.shapes import Item, Shape, box, ellipsoid, shifted

from . import materials as mat
from .labels import Label
from .objects import book_row
from .storage import screen


def window(rng: Rng, ceiling_m: float) -> Item:
    """Bright glass behind frame bars, with curtains or a blind more often than not."""
    w, low = float(rng.uniform(0.8, 2.0)), float(rng.uniform(0.7, 1.0))
    high = min(low + float(rng.uniform(0.9, 1.5)), ceiling_m - 0.2)
    frame = mat.wood(rng) if rng.random() < 0.25 else Material("plain", (0.85,) * 3, (0.8,) * 3, 0.3, 0, 0.1)
    shapes: list[Shape] = [box(Label.WINDOW, mat.sky(rng), (-w / 2, w / 2), (-0.02, -0.005), (low, high)).shadowless()]
    for x in (-w / 2, w / 2):
        shapes.append(box(Label.WINDOW, frame, (x - 0.035, x + 0.035), (-0.05, 0), (low - 0.03, high + 0.03)))
    for z in (low, high):
        shapes.append(box(Label.WINDOW, frame, (-w / 2, w / 2), (-0.05, 0), (z - 0.035, z + 0.035)))
    for x in np.linspace(-w / 2, w / 2, int(rng.integers(2, 4)) + 1)[1:-1]:
        shapes.append(box(Label.WINDOW, frame, (float(x) - 0.022, float(x) + 0.022), (-0.04, 0), (low, high)))
    if rng.random() < 0.35:
        middle = low + (high - low) * float(rng.uniform(0.5, 0.7))
        shapes.append(box(Label.WINDOW, frame, (-w / 2, w / 2), (-0.04, 0), (middle - 0.02, middle + 0.02)))
    width, pick = w + 0.08, rng.random()
    if pick < 0.5:
        cloth, rail = mat.curtain(rng), mat.metal(rng)
        bottom = 0.04 if rng.random() < 0.4 else low - float(rng.uniform(0.1, 0.3))
        half = float(rng.uniform(0.14, 0.24))
        for side in (-1, 1):
            x = side * (w / 2 + 0.02)
            shapes.append(box(Label.WINDOW, cloth, (x - half, x + half), (-0.13, -0.07), (bottom, high + 0.13)))
        shapes.append(
            box(Label.WINDOW, rail, (-w / 2 - half - 0.1, w / 2 + half + 0.1), (-0.11, -0.09), (high + 0.12, high + 0.145))
        )
        width = w + 2 * half + 0.24
    elif pick < 0.7:
        slats = Material("slats", (0.8, 0.79, 0.75), (0.4, 0.39, 0.36), 0.05, 0, 0.0, 0.25)
        bottom = low + (high - low) * float(rng.uniform(0.1, 0.7))
        shapes.append(box(Label.WINDOW, slats, (-w / 2 - 0.02, w / 2 + 0.02), (-0.075, -0.055), (bottom, high + 0.05)))
    return Item("window", tuple(shapes), width, 0.14, high)


def picture(rng: Rng, ceiling_m: float) -> Item:
    """A frame, a pale mat, and art in the middle."""
    w, h = float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.3, 0.8))
    low = min(float(rng.uniform(1.1, 1.6)), ceiling_m - h - 0.12)
    frame = mat.wood(rng) if rng.random() < 0.5 else mat.black_plastic(rng)
    rim, margin = float(rng.uniform(0.018, 0.035)), float(rng.uniform(0.04, 0.09))
    shapes = []
    for inset, depth, material in (
        (0.0, 0.028, frame),
        (rim, 0.031, mat.picture_mat(rng)),
        (rim + margin, 0.034, mat.art(rng)),
    ):
        extent = (-w / 2 + inset, w / 2 - inset), (-depth, 0.0), (low + inset, low + h - inset)
        shapes.append(box(Label.PICTURE, material, *extent).shadowless())
    return Item("picture", tuple(shapes), w, 0.04, low + h)


def door(rng: Rng) -> Item:
    """A panelled door in its frame; doors count as wall."""
    leaf = mat.paint(rng) if rng.random() < 0.6 else mat.wood(rng)
    frame, inner = leaf.shaded(0.92), leaf.shaded(0.88)
    shapes = [box(Label.WALL, leaf, (-0.42, 0.42), (-0.03, 0), (0.005, 2.03))]
    for x in (-0.455, 0.455):
        shapes.append(box(Label.WALL, frame, (x - 0.04, x + 0.04), (-0.05, 0), (0, 2.09)))
    shapes.append(box(Label.WALL, frame, (-0.495, 0.495), (-0.05, 0), (2.03, 2.1)))
    for z in ((0.2, 0.9), (1.05, 1.85)):
        shapes.append(box(Label.WALL, inner, (-0.28, 0.28), (-0.036, 0), z).shadowless())
    shapes.append(ellipsoid(Label.WALL, mat.metal(rng), (0.35, -0.07, 1.0), (0.03, 0.03, 0.03)))
    return Item("door", tuple(shape.shadowless() for shape in shapes), 1.0, 0.06, 2.1)


def wall_tv(rng: Rng) -> Item:
    """A television fixed to the wall."""
    half, low = float(rng.uniform(0.42, 0.7)), float(rng.uniform(0.9, 1.25))
    return Item("wall_tv", tuple(shifted(screen(rng, half), 0, -0.04, low)), 2 * half + 0.04, 0.06, low + 1.2 * half)


def wall_shelf(rng: Rng) -> Item:
    """One board with a row of books on it."""
    w, z = float(rng.uniform(0.6, 1.2)), float(rng.uniform(1.2, 1.6))
    shapes = [box(Label.FURNITURE, mat.board(rng), (-w / 2, w / 2), (-0.24, 0), (z - 0.025, z))]
    shapes += book_row(rng, (-w / 2 + 0.02, -w / 2 + w * float(rng.uniform(0.6, 0.98))), -0.01, z, 0.3, 0.22)
    return Item("wall_shelf", tuple(shapes), w, 0.24, z + 0.3)
