"""Beds, sofas, chairs and tables. Each function draws one `Item` from a generator."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mtl.datasets.worlds.materials import Material, Rng
from mtl.datasets.worlds.shapes import Item, Shape, block, box, cylinder, ellipsoid, leaning, shifted, turned

from . import materials as mat
from .labels import Label
from .objects import clutter
from .storage import screen


def legs(rng: Rng, label: Label, material: Material, width_m: float, depth_m: float, height_m: float) -> list[Shape]:
    """Four legs under a rectangle, round or square."""
    half = float(rng.uniform(0.016, 0.032))
    round_legs = rng.random() < 0.35
    shapes = []
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (width_m / 2 - 1.6 * half), sy * (depth_m / 2 - 1.6 * half)
            if round_legs:
                shapes.append(cylinder(label, material, x, y, (0, height_m), half))
            else:
                shapes.append(box(label, material, (x - half, x + half), (y - half, y + half), (0, height_m)))
    return shapes


def bed(rng: Rng) -> Item:
    """Frame, mattress, turned-down cover, headboard and pillows."""
    w, d = float(rng.choice([0.95, 1.4, 1.6, 1.8])), float(rng.uniform(1.95, 2.1))
    frame_top, thickness = float(rng.uniform(0.22, 0.34)), float(rng.uniform(0.18, 0.27))
    top = frame_top + thickness
    frame, sheet, cover = mat.board(rng), mat.linen(rng), mat.quilt(rng)
    covered = float(rng.uniform(0.55, 0.8)) * d
    hang = float(rng.uniform(0.05, 0.3))
    shapes = [
        box(Label.BED, frame, (-w / 2, w / 2), (-d / 2, d / 2), (float(rng.choice([0.0, 0.06])), frame_top)),
        box(Label.BED, sheet, (-w / 2 + 0.03, w / 2 - 0.03), (-d / 2 + 0.02, d / 2 - 0.02), (frame_top, top)),
        box(
            Label.BED,
            cover,
            (-w / 2 - 0.02, w / 2 + 0.02),
            (-d / 2 - 0.015, covered - d / 2),
            (frame_top - hang + 0.05, top + 0.035),
        ),
        box(
            Label.BED,
            sheet.shaded(0.93),
            (-w / 2 - 0.022, w / 2 + 0.022),
            (covered - d / 2 - 0.16, covered - d / 2 + 0.02),
            (top - 0.1, top + 0.05),
        ),
    ]
    if rng.random() < 0.85:
        board_top = float(rng.uniform(0.8, 1.25))
        padded = mat.upholstery(rng) if rng.random() < 0.3 else frame
        shapes.append(box(Label.BED, padded, (-w / 2 - 0.03, w / 2 + 0.03), (d / 2 - 0.02, d / 2 + 0.06), (0, board_top)))
    pillow, single = mat.linen(rng), w < 1.2
    for x in (0.0,) if single else (-w / 4, w / 4):
        half = w / (2.7 if single else 4.5)
        shapes.append(ellipsoid(Label.BED, pillow, (x, d / 2 - 0.27, top + 0.08), (half, 0.2, 0.11), leaning(-0.2)))
    if not single and rng.random() < 0.4:
        shapes.append(ellipsoid(Label.BED, mat.cushion(rng), (0, d / 2 - 0.5, top + 0.12), (0.2, 0.1, 0.16), leaning(-0.4)))
    return Item("bed", tuple(shapes), w + 0.06, d + 0.12, 1.1)


def sofa(rng: Rng) -> Item:
    """An armchair to a three-seater: base, arms, seat and back cushions of one fabric."""
    w, d = float(rng.choice([0.95, 1.55, 1.95, 2.25])), float(rng.uniform(0.8, 0.95))
    seat, arm, back = float(rng.uniform(0.38, 0.45)), float(rng.uniform(0.12, 0.22)), float(rng.uniform(0.74, 0.92))
    fabric = mat.upholstery(rng)
    arm_top = seat + float(rng.uniform(0.12, 0.22))
    shapes = [
        box(Label.SOFA, fabric.shaded(0.9), (-w / 2 + 0.01, w / 2 - 0.01), (-d / 2 + 0.03, d / 2), (0.06, seat - 0.12)),
        box(Label.SOFA, fabric, (-w / 2, w / 2), (d / 2 - 0.2, d / 2), (0.06, back)),
    ]
    for side in (-1, 1):
        x = side * (w / 2 - arm / 2)
        shapes.append(box(Label.SOFA, fabric, (x - arm / 2, x + arm / 2), (-d / 2, d / 2), (0.06, arm_top)))
    count = max(1, round((w - 2 * arm) / 0.65))
    cushion_w = (w - 2 * arm) / count
    for index in range(count):
        x = -w / 2 + arm + cushion_w * (index + 0.5)
        shapes.append(
            box(
                Label.SOFA,
                fabric,
                (x - cushion_w / 2 + 0.008, x + cushion_w / 2 - 0.008),
                (-d / 2 - 0.01, d / 2 - 0.2),
                (seat - 0.11, seat),
            )
        )
        shapes.append(
            block(Label.SOFA, fabric, (x, d / 2 - 0.26, seat + 0.2), (cushion_w / 2 - 0.012, 0.075, 0.21), leaning(-0.18))
        )
    for _ in range(int(rng.integers(0, 3)) if w > 1.2 else int(rng.integers(0, 2))):
        x = float(rng.uniform(-w / 3, w / 3)) if w > 1.2 else 0.0
        shapes.append(ellipsoid(Label.SOFA, mat.cushion(rng), (x, d / 2 - 0.4, seat + 0.16), (0.2, 0.08, 0.18), leaning(-0.35)))
    foot = mat.wood(rng)
    for sx in (-1, 1):
        for sy in (-1, 1):
            shapes.append(cylinder(Label.SOFA, foot, sx * (w / 2 - 0.08), sy * (d / 2 - 0.08), (0, 0.07), 0.025))
    return Item("sofa", tuple(shapes), w + 0.02, d + 0.02, back)


def chair(rng: Rng, *, office: bool | None = None) -> Item:
    """A dining chair, or an office chair on a five-armed foot."""
    w, seat, back = float(rng.uniform(0.4, 0.48)), float(rng.uniform(0.43, 0.48)), float(rng.uniform(0.82, 1.02))
    office = rng.random() < 0.25 if office is None else office
    frame = mat.wood(rng) if rng.random() < 0.7 else mat.paint(rng)
    padding = mat.upholstery(rng) if office or rng.random() < 0.4 else frame
    shapes: list[Shape] = []
    if office:
        foot = mat.black_plastic(rng)
        frame = foot
        shapes.append(cylinder(Label.CHAIR, foot, 0, 0, (0.06, seat), 0.028))
        for angle in np.arange(5) * (2 * np.pi / 5):
            centre = (0.14 * float(np.cos(angle)), 0.14 * float(np.sin(angle)), 0.05)
            shapes.append(block(Label.CHAIR, foot, centre, (0.15, 0.02, 0.02), turned(angle)))
    else:
        shapes += legs(rng, Label.CHAIR, frame, w, w, seat)
    shapes.append(box(Label.CHAIR, padding, (-w / 2, w / 2), (-w / 2, w / 2), (seat - 0.03, seat + 0.03)))
    lean, middle, half = leaning(-rng.uniform(0.05, 0.18)), (seat + back) / 2, (back - seat) / 2
    if office or rng.random() < 0.5:
        shapes.append(block(Label.CHAIR, padding, (0, w / 2, middle + 0.05), (w / 2 - 0.01, 0.025, half - 0.04), lean))
        shapes.append(block(Label.CHAIR, frame, (0, w / 2 + 0.03, middle), (0.03, 0.015, half), lean))
    else:
        for x in np.linspace(-w / 2 + 0.02, w / 2 - 0.02, int(rng.integers(3, 6))):
            shapes.append(block(Label.CHAIR, frame, (float(x), w / 2, middle), (0.016, 0.016, half), lean))
        for z in (back - 0.03, middle) if rng.random() < 0.4 else (back - 0.03,):
            y = w / 2 + (z - middle) * 0.11
            shapes.append(block(Label.CHAIR, frame, (0, y, z), (w / 2, 0.014, 0.045), lean))
    if rng.random() < (0.7 if office else 0.2):
        for side in (-1, 1):
            x = side * w / 2
            shapes.append(box(Label.CHAIR, frame, (x - 0.025, x + 0.025), (-w / 2 + 0.05, w / 2), (seat + 0.19, seat + 0.22)))
            shapes.append(box(Label.CHAIR, frame, (x - 0.02, x + 0.02), (-w / 2 + 0.06, -w / 2 + 0.1), (seat, seat + 0.2)))
    return Item("chair", tuple(shapes), w + 0.06, w + 0.12, back)


TableKind = Literal["dining", "round", "coffee", "desk", "side"]


def table(rng: Rng, kind: TableKind) -> Item:
    """A table with things on it; a desk usually carries a screen and a keyboard."""
    top_material = mat.wood(rng) if rng.random() < 0.75 else mat.paint(rng)
    shapes: list[Shape] = []
    if kind == "round":
        radius, h = float(rng.uniform(0.42, 0.62)), float(rng.uniform(0.7, 0.76))
        w = d = 2 * radius
        shapes.append(cylinder(Label.TABLE, top_material, 0, 0, (h - 0.035, h), radius))
        shapes.append(cylinder(Label.TABLE, top_material, 0, 0, (0, h), 0.045))
        shapes.append(cylinder(Label.TABLE, top_material, 0, 0, (0, 0.03), radius * 0.5))
    else:
        w, d, h = _TABLE_SIZES[kind](rng)
        slab = float(rng.uniform(0.02, 0.045))
        shapes.append(box(Label.TABLE, top_material, (-w / 2, w / 2), (-d / 2, d / 2), (h - slab, h)))
        shapes += legs(rng, Label.TABLE, mat.metal(rng) if rng.random() < 0.2 else top_material, w, d, h - slab)
        if kind == "dining":
            apron = top_material.shaded(0.9)
            shapes.append(
                box(
                    Label.TABLE,
                    apron,
                    (-w / 2 + 0.05, w / 2 - 0.05),
                    (-d / 2 + 0.05, d / 2 - 0.05),
                    (h - slab - 0.07, h - slab),
                )
            )
        if kind == "coffee" and rng.random() < 0.5:
            shapes.append(
                box(Label.TABLE, top_material, (-w / 2 + 0.04, w / 2 - 0.04), (-d / 2 + 0.04, d / 2 - 0.04), (0.12, 0.14))
            )
    inner_x, inner_y = (-w * 0.38, w * 0.38), (-d * 0.33, d * 0.33)
    if kind == "desk":
        shapes += _desk_top(rng, d, h)
        inner_x = (-w * 0.42, -w * 0.3) if rng.random() < 0.5 else (w * 0.3, w * 0.42)
    elif kind == "round":
        inner_x = inner_y = (-0.5 * w / 2, 0.5 * w / 2)
    shapes += clutter(rng, inner_x, inner_y, h, int(rng.integers(1, 6)), lamps=kind in ("desk", "side"))
    return Item(kind, tuple(shapes), w, d, h)


_TABLE_SIZES = {
    "dining": lambda rng: (float(rng.uniform(1.2, 1.9)), float(rng.uniform(0.75, 0.95)), float(rng.uniform(0.71, 0.77))),
    "coffee": lambda rng: (float(rng.uniform(0.75, 1.2)), float(rng.uniform(0.45, 0.65)), float(rng.uniform(0.36, 0.48))),
    "desk": lambda rng: (float(rng.uniform(1.1, 1.6)), float(rng.uniform(0.6, 0.75)), float(rng.uniform(0.7, 0.76))),
    "side": lambda rng: (float(rng.uniform(0.4, 0.55)), float(rng.uniform(0.4, 0.5)), float(rng.uniform(0.5, 0.62))),
}


def _desk_top(rng: Rng, depth_m: float, height_m: float) -> list[Shape]:
    """Screen, its foot and a keyboard."""
    if rng.random() < 0.15:
        return []
    black = mat.black_plastic(rng)
    y = depth_m / 2 - 0.16
    shapes = shifted(screen(rng, float(rng.uniform(0.26, 0.36))), 0, y, height_m + 0.1)
    shapes.append(box(Label.TV, black, (-0.025, 0.025), (y, y + 0.03), (height_m, height_m + 0.14)))
    shapes.append(box(Label.TV, black, (-0.12, 0.12), (y - 0.08, y + 0.08), (height_m, height_m + 0.012)))
    keys = mat.black_plastic(rng) if rng.random() < 0.6 else mat.paint(rng)
    shapes.append(box(Label.OBJECTS, keys, (-0.21, 0.21), (-0.14, 0.0), (height_m, height_m + 0.02)))
    return shapes
