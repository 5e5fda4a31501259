"""Cabinets, shelves, counters and television stands: boards, fronts, handles. Each draws one `Item`."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mtl.datasets.worlds.materials import Material, Rng, hsv
from mtl.datasets.worlds.shapes import Item, Shape, box, cylinder, ellipsoid, shifted

from . import materials as mat
from .labels import Label
from .objects import book_row, book_stack, clutter

Handle = Literal["bar", "knob", "left", "right"]
CabinetKind = Literal["wardrobe", "dresser", "fridge", "nightstand", "sideboard"]


def screen(rng: Rng, half_width_m: float) -> list[Shape]:
    """A television or monitor: thin black bezel around a dark glossy panel, bottom edge at z = 0."""
    bezel, panel = mat.black_plastic(rng), mat.screen(rng)
    w, h, rim = half_width_m, 2 * half_width_m * float(rng.uniform(0.54, 0.6)), 0.014
    return [
        box(Label.TV, bezel, (-w - rim, w + rim), (-0.01, 0.03), (0, h + 2 * rim)),
        box(Label.TV, panel, (-w, w), (-0.014, -0.009), (rim, h + rim)).shadowless(),
    ]


def front(
    material: Material, knob: Material, x: tuple[float, float], y: float, z: tuple[float, float], handle: Handle
) -> list[Shape]:
    """One door or drawer front at depth y, proud of the carcass, with its handle."""
    gap, proud = 0.007, 0.018
    shapes = [
        box(Label.FURNITURE, material, (x[0] + gap, x[1] - gap), (y - proud, y + 0.002), (z[0] + gap, z[1] - gap)).shadowless()
    ]
    middle_x, middle_z = (x[0] + x[1]) / 2, (z[0] + z[1]) / 2
    if handle == "bar":
        half = min(0.09, (x[1] - x[0]) * 0.25)
        shapes.append(
            box(
                Label.FURNITURE,
                knob,
                (middle_x - half, middle_x + half),
                (y - 0.045, y - proud),
                (middle_z - 0.009, middle_z + 0.009),
            )
        )
    elif handle == "knob":
        shapes.append(ellipsoid(Label.FURNITURE, knob, (middle_x, y - 0.032, middle_z), (0.018, 0.018, 0.018)))
    else:
        at = x[1] - 0.05 if handle == "right" else x[0] + 0.05
        half = min(0.1, (z[1] - z[0]) * 0.2)
        shapes.append(
            box(Label.FURNITURE, knob, (at - 0.009, at + 0.009), (y - 0.045, y - proud), (middle_z - half, middle_z + half))
        )
    return [shapes[0], *(shape.shadowless() for shape in shapes[1:])]


def cabinet(rng: Rng, kind: CabinetKind | None = None) -> Item:
    """A carcass with doors or drawers, and things on top when it is low."""
    kind = kind or rng.choice(["wardrobe", "dresser", "dresser", "sideboard", "fridge", "nightstand"])
    w, d, h, columns, rows = _CABINET_SIZES[kind](rng)
    body = mat.board(rng)
    if kind == "fridge":
        body = Material("plain", *(2 * (hsv(0.6, rng.uniform(0, 0.06), rng.uniform(0.7, 0.95)),)), 0.3, 0, 0.3)
    face, knob = body.shaded(rng.uniform(0.85, 1.12)), mat.metal(rng)
    shapes = [box(Label.FURNITURE, body, (-w / 2, w / 2), (-d / 2, d / 2), (0.04, h))]
    shapes.append(box(Label.FURNITURE, body.shaded(0.5), (-w / 2 + 0.03, w / 2 - 0.03), (-d / 2 + 0.05, d / 2), (0, 0.05)))
    drawer: Handle = "bar" if rng.random() < 0.5 else "knob"
    for column in range(columns):
        x = (-w / 2 + w * column / columns, -w / 2 + w * (column + 1) / columns)
        for row in range(rows):
            z = (0.06 + (h - 0.08) * row / rows, 0.06 + (h - 0.08) * (row + 1) / rows)
            handle: Handle = drawer
            if kind in ("wardrobe", "fridge") or (kind == "sideboard" and rows == 1):
                handle = "right" if column % 2 == 0 else "left"
            shapes += front(face, knob, x, -d / 2, z, handle)
    if h < 1.35:
        shapes += clutter(rng, (-w * 0.4, w * 0.4), (-d * 0.2, d * 0.25), h, int(rng.integers(1, 5)))
    return Item(kind, tuple(shapes), w, d + 0.04, h)


_CABINET_SIZES = {
    "wardrobe": lambda rng: (float(rng.uniform(0.9, 1.8)), 0.58, float(rng.uniform(1.8, 2.2)), int(rng.integers(2, 4)), 1),
    "dresser": lambda rng: (
        float(rng.uniform(0.8, 1.4)),
        0.48,
        float(rng.uniform(0.75, 1.2)),
        int(rng.integers(1, 3)),
        int(rng.integers(3, 6)),
    ),
    "sideboard": lambda rng: (
        float(rng.uniform(1.1, 1.8)),
        0.44,
        float(rng.uniform(0.7, 0.95)),
        int(rng.integers(2, 5)),
        int(rng.integers(1, 3)),
    ),
    "fridge": lambda rng: (0.66, 0.66, float(rng.uniform(1.5, 1.9)), 1, 2),
    "nightstand": lambda rng: (float(rng.uniform(0.42, 0.55)), 0.4, float(rng.uniform(0.45, 0.62)), 1, int(rng.integers(1, 4))),
}


def tv_stand(rng: Rng) -> Item:
    """A low unit carrying a television."""
    w, d, h = float(rng.uniform(1.1, 1.7)), float(rng.uniform(0.38, 0.48)), float(rng.uniform(0.4, 0.6))
    body, knob, black = mat.board(rng), mat.metal(rng), mat.black_plastic(rng)
    shapes = [box(Label.FURNITURE, body, (-w / 2, w / 2), (-d / 2, d / 2), (0.04, h))]
    columns = int(rng.integers(2, 4))
    for column in range(columns):
        x = (-w / 2 + w * column / columns, -w / 2 + w * (column + 1) / columns)
        shapes += front(body.shaded(0.88), knob, x, -d / 2, (0.06, h - 0.03), "knob")
    half = float(rng.uniform(0.42, min(0.68, w / 2)))
    shapes += shifted(screen(rng, half), 0, 0.03, h + 0.06)
    shapes.append(box(Label.TV, black, (-0.2, 0.2), (-0.08, 0.1), (h, h + 0.015)))
    shapes.append(box(Label.TV, black, (-0.05, 0.05), (0.02, 0.06), (h, h + 0.1)))
    return Item("tv_stand", tuple(shapes), w, d + 0.04, 1.3)


def bookshelf(rng: Rng) -> Item:
    """An open shelf, mostly full of books."""
    w, d, rows = float(rng.uniform(0.75, 1.5)), float(rng.uniform(0.26, 0.34)), int(rng.integers(3, 7))
    pitch, t = float(rng.uniform(0.28, 0.35)), 0.022
    h = rows * pitch + 0.06
    body = mat.board(rng)
    shapes = [
        box(Label.FURNITURE, body, (-w / 2, -w / 2 + t), (-d / 2, d / 2), (0, h)),
        box(Label.FURNITURE, body, (w / 2 - t, w / 2), (-d / 2, d / 2), (0, h)),
        box(Label.FURNITURE, body.shaded(0.7), (-w / 2, w / 2), (d / 2 - 0.01, d / 2), (0, h)),
    ]
    for row in range(rows + 1):
        z = 0.04 + row * pitch
        shapes.append(box(Label.FURNITURE, body, (-w / 2 + t, w / 2 - t), (-d / 2 + 0.002, d / 2), (z - 0.022, z)))
        if row == rows:
            break
        pick, inside = rng.random(), (-w / 2 + 0.03, w / 2 - 0.03)
        if pick < 0.82:
            end = inside[0] + (w - 0.06) * float(rng.uniform(0.6, 1.0))
            shapes += book_row(rng, (inside[0], end), d / 2 - 0.02, z, pitch - 0.05, d - 0.06)
            if inside[1] - end > 0.36:
                shapes += book_stack(rng, (end + inside[1]) / 2, 0, z)
        else:
            shapes += clutter(rng, (inside[0] + 0.15, inside[1] - 0.15), (-0.03, 0.03), z, int(rng.integers(1, 3)), lamps=False)
    return Item("bookshelf", tuple(shapes), w, d, h)


def counter(rng: Rng) -> Item:
    """A kitchen run: base units, worktop, often wall units and a tap, with things standing on it."""
    w, d, h = float(rng.uniform(1.4, 2.6)), 0.62, 0.9
    body = mat.board(rng)
    shapes = [
        box(Label.FURNITURE, body, (-w / 2, w / 2), (-d / 2 + 0.03, d / 2), (0.08, h - 0.04)),
        box(Label.FURNITURE, mat.stone(rng), (-w / 2, w / 2), (-d / 2, d / 2), (h - 0.04, h)),
    ]
    units = max(2, int(w / 0.5))
    edges = np.linspace(-w / 2, w / 2, units + 1).tolist()
    face, knob = body.shaded(0.92), mat.metal(rng)
    for index in range(units):
        shapes += front(face, knob, (edges[index], edges[index + 1]), -d / 2 + 0.03, (0.1, h - 0.06), "bar")
    if rng.random() < 0.7:
        shapes.append(box(Label.FURNITURE, body, (-w / 2, w / 2), (d / 2 - 0.34, d / 2), (1.45, 2.1)))
        for index in range(units):
            side: Handle = "right" if index % 2 == 0 else "left"
            shapes += front(face, knob, (edges[index], edges[index + 1]), d / 2 - 0.34, (1.46, 2.09), side)
    if rng.random() < 0.6:
        tap, x = mat.metal(rng), float(rng.uniform(-w / 4, w / 4))
        shapes.append(cylinder(Label.OBJECTS, tap, x, d / 2 - 0.1, (h, h + 0.28), 0.014))
        shapes.append(box(Label.OBJECTS, tap, (x - 0.012, x + 0.012), (d / 2 - 0.28, d / 2 - 0.1), (h + 0.26, h + 0.28)))
        shapes.append(
            box(Label.OBJECTS, tap.shaded(0.6), (x - 0.22, x + 0.22), (-0.16, 0.16), (h - 0.01, h + 0.003)).shadowless()
        )
    shapes += clutter(rng, (-w * 0.42, w * 0.42), (-0.05, 0.2), h, int(rng.integers(3, 8)), lamps=False)
    return Item("counter", tuple(shapes), w, d, 2.1)
