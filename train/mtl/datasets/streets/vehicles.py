"""What drives: cars, vans, lorries, buses, trams, motorcycles and bicycles. Each function draws the shapes of one.

A vehicle has its front towards -y and stands on z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mtl.datasets.worlds.materials import Colour, Material, Rng
from mtl.datasets.worlds.shapes import Kind, Shape, block, box, ellipsoid, leaning

from . import street_materials as mat
from .classes import Label

__all__ = ["Vehicle", "bicycle", "bus", "car", "lorry", "motorcycle", "tram", "van"]

_WHITE: Colour = (0.95, 0.92, 0.85)
_RED: Colour = (0.75, 0.03, 0.02)
_SIDEWAYS = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)  # a cylinder's own z becomes x: a wheel


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle not yet placed: the class of the object that it is, its shapes, and the space that it takes."""

    name: str
    shapes: tuple[Shape, ...]
    width_m: float
    length_m: float


def wheel(label: Label, material: Material, x: float, y: float, radius: float, half_width: float) -> Shape:
    """A wheel that stands on the ground, its axle along x."""
    return Shape(Kind.CYLINDER, label, material, (x, y, radius), (radius, radius, half_width), _SIDEWAYS)


def _wheels(label: Label, rng: Rng, width: float, places: list[float], radius: float) -> list[Shape]:
    rubber, rim = mat.rubber(rng), mat.metal(rng)
    found = []
    for y in places:
        for side in (-1, 1):
            tyre = wheel(label, rubber, side * (width / 2 - 0.1), y, radius, 0.11)
            found += [tyre, replace(tyre, material=rim, half_m=(radius * 0.55, radius * 0.55, 0.118)).shadowless()]
    return found


def _lamps(label: Label, width: float, front_y: float, rear_y: float, z: float, *, dark: bool, braking: bool) -> list[Shape]:
    """Head lights, tail lights and plates."""
    head, tail = mat.glow(_WHITE, 6.0 if dark else 0.0), mat.glow(_RED, 2.2 if braking else (0.9 if dark else 0.0))
    plate = mat.glow((0.8, 0.8, 0.75), 0.0)
    found = []
    for side in (-1, 1):
        x = side * (width / 2 - 0.24)
        found.append(box(label, head, (x - 0.17, x + 0.17), (front_y - 0.015, front_y + 0.02), (z, z + 0.14)))
        found.append(box(label, tail, (x - 0.15, x + 0.15), (rear_y - 0.02, rear_y + 0.015), (z + 0.06, z + 0.24)))
    found.append(box(label, plate, (-0.26, 0.26), (rear_y - 0.02, rear_y + 0.018), (z - 0.08, z + 0.04)))
    found.append(box(label, plate, (-0.26, 0.26), (front_y - 0.018, front_y + 0.02), (z - 0.28, z - 0.17)))
    return [shape.shadowless() for shape in found]


def car(rng: Rng, *, dark: bool, braking: bool = False) -> Vehicle:
    """A hatchback, a saloon, an estate or an off-roader."""
    tall = rng.random() < 0.35
    length, width = float(rng.uniform(3.7, 4.9)), float(rng.uniform(1.68, 1.92))
    height = float(rng.uniform(1.58, 1.82)) if tall else float(rng.uniform(1.38, 1.52))
    sill, waist = (0.3, 0.98) if tall else (0.22, float(rng.uniform(0.78, 0.9)))
    paint, glass, black = mat.lacquer(rng), mat.glass(rng), mat.plastic(rng)
    saloon = not tall and rng.random() < 0.45
    front, rear = -length / 2, length / 2
    hood = front + length * float(rng.uniform(0.22, 0.29))
    boot = rear - (length * float(rng.uniform(0.14, 0.2)) if saloon else 0.06)
    w = width / 2
    cabin = (hood + 0.32, boot - (0.35 if saloon else 0.18))
    label = Label.CAR
    shapes = [
        box(label, paint, (-w, w), (front + 0.05, rear - 0.05), (sill, waist - 0.12)),
        box(label, paint, (-w + 0.05, w - 0.05), (front + 0.12, rear - 0.05), (waist - 0.14, waist)),
        box(label, black, (-w + 0.06, w - 0.06), (front, rear), (sill - 0.04, sill + 0.2)),
        box(label, glass, (-w + 0.14, w - 0.14), cabin, (waist, height - 0.05)),
        box(label, paint, (-w + 0.17, w - 0.17), (cabin[0] + 0.18, cabin[1] - 0.02), (height - 0.06, height)),
    ]
    slope = (height - waist) * 0.62
    shapes.append(_pane(glass, w - 0.15, cabin[0], waist, height, slope))
    shapes.append(_pane(glass, w - 0.15, cabin[1], waist, height, -slope * (0.8 if saloon else 0.4)))
    for y in (cabin[0] + (cabin[1] - cabin[0]) * 0.42, cabin[1] - 0.08):
        pillar = box(label, paint, (-w + 0.135, w - 0.135), (y - 0.045, y + 0.045), (waist, height - 0.03))
        shapes.append(pillar.shadowless())
    for side in (-1, 1):
        x = side * (w + 0.07)
        mirror = box(label, paint, (x - 0.08, x + 0.08), (cabin[0] - 0.02, cabin[0] + 0.1), (waist + 0.02, waist + 0.16))
        shapes.append(mirror.shadowless())
    grille = box(label, black, (-w * 0.55, w * 0.55), (front - 0.012, front + 0.05), (sill + 0.12, sill + 0.34))
    shapes.append(grille.shadowless())
    shapes += _lamps(label, width, front + 0.04, rear - 0.04, waist - 0.32, dark=dark, braking=braking)
    shapes += _wheels(label, rng, width, [front + 0.82, rear - 0.82], 0.33 if not tall else 0.37)
    return Vehicle("car", tuple(shapes), width, length)


def _pane(glass: Material, half: float, y: float, low: float, high: float, slope: float) -> Shape:
    """A leaning windscreen whose upper edge is at `y` and whose lower one is `slope` further out."""
    rise, middle = high - 0.05 - low, (low + high - 0.05) / 2
    reach = float(np.hypot(rise, slope)) / 2
    return block(Label.CAR, glass, (0.0, y - slope / 2, middle), (half, 0.02, reach), leaning(-float(np.arctan2(slope, rise))))


def van(rng: Rng, *, dark: bool, braking: bool = False) -> Vehicle:
    """A delivery van or a minibus; BDD100K counts it among the cars."""
    length, width, height = float(rng.uniform(4.7, 5.9)), float(rng.uniform(1.9, 2.05)), float(rng.uniform(1.95, 2.5))
    paint = mat.lacquer(rng) if rng.random() < 0.5 else mat.tarpaulin(rng)
    glass, black = mat.glass(rng), mat.plastic(rng)
    front, rear, w, label = -length / 2, length / 2, width / 2, Label.CAR
    shapes = [
        box(label, paint, (-w, w), (front + 0.85, rear), (0.35, height)),
        box(label, paint, (-w + 0.03, w - 0.03), (front + 0.05, front + 0.9), (0.35, 1.15)),
        box(label, black, (-w + 0.05, w - 0.05), (front, rear + 0.03), (0.25, 0.5)),
        block(label, glass, (0.0, front + 0.62, 1.5), (w - 0.14, 0.03, 0.5), leaning(-0.7)),
        box(label, glass, (-w - 0.008, w + 0.008), (front + 1.0, front + 1.8), (1.15, min(1.75, height - 0.2))).shadowless(),
    ]
    if rng.random() < 0.6:
        back = box(label, glass, (-w + 0.2, w - 0.2), (rear - 0.02, rear + 0.01), (1.2, min(1.75, height - 0.2)))
        shapes.append(back.shadowless())
    shapes += _lamps(label, width, front + 0.03, rear + 0.01, 0.72, dark=dark, braking=braking)
    shapes += _wheels(label, rng, width, [front + 0.95, rear - 0.95], 0.36)
    return Vehicle("car", tuple(shapes), width, length)


def lorry(rng: Rng, *, dark: bool, braking: bool = False) -> Vehicle:
    """A cab and a body: a box, a tipper or a tank."""
    length, width, height = float(rng.uniform(6.5, 13.0)), float(rng.uniform(2.3, 2.55)), float(rng.uniform(3.0, 3.9))
    paint, cargo, black, glass = mat.lacquer(rng), mat.tarpaulin(rng), mat.plastic(rng), mat.glass(rng)
    front, rear, w, label = -length / 2, length / 2, width / 2, Label.TRUCK
    cab = front + float(rng.uniform(1.7, 2.2))
    cab_height = min(height, float(rng.uniform(2.5, 3.3)))
    shapes = [
        box(label, paint, (-w + 0.05, w - 0.05), (front, cab), (0.5, cab_height)),
        box(label, glass, (-w + 0.16, w - 0.16), (front - 0.012, front + 0.1), (1.65, cab_height - 0.35)).shadowless(),
        box(label, glass, (-w + 0.04, w - 0.04), (front + 0.4, cab - 0.5), (1.7, cab_height - 0.4)).shadowless(),
        box(label, black, (-w + 0.15, w - 0.15), (front + 0.2, rear), (0.55, 0.95)),
        box(label, black, (-w, w), (front - 0.03, front + 0.3), (0.35, 0.75)),
    ]
    pick = rng.random()
    if pick < 0.7:
        shapes.append(box(label, cargo, (-w, w), (cab + 0.15, rear), (0.95, height)))
    elif pick < 0.85:
        shapes.append(box(label, cargo, (-w, w), (cab + 0.15, rear), (0.95, float(rng.uniform(1.6, 2.2)))))
    else:
        tank = Shape(Kind.ELLIPSOID, label, mat.metal(rng), (0, (cab + 0.15 + rear) / 2, 1.9), (w, (rear - cab) / 2, 1.0))
        shapes.append(tank)
    shapes += _lamps(label, width, front - 0.02, rear, 0.75, dark=dark, braking=braking)
    places = [front + 1.1, rear - 1.0, rear - 2.2] if length > 8 else [front + 1.1, rear - 1.3]
    shapes += _wheels(label, rng, width, places, 0.5)
    return Vehicle("truck", tuple(shapes), width, length)


def bus(rng: Rng, *, dark: bool, braking: bool = False) -> Vehicle:
    """A city bus."""
    length, width, height = float(rng.uniform(9.5, 12.5)), 2.5, float(rng.uniform(2.95, 3.3))
    shapes = _coach(rng, Label.BUS, length, width, height, low=0.35, dark=dark)
    shapes += _lamps(Label.BUS, width, -length / 2 - 0.01, length / 2 + 0.01, 0.8, dark=dark, braking=braking)
    shapes += _wheels(Label.BUS, rng, width, [-length / 2 + 2.4, length / 2 - 3.0], 0.5)
    return Vehicle("bus", tuple(shapes), width, length)


def tram(rng: Rng, *, dark: bool, braking: bool = False) -> Vehicle:
    """A tram of two sections."""
    length, width, height = float(rng.uniform(18.0, 26.0)), 2.4, 3.4
    shapes = _coach(rng, Label.TRAIN, length, width, height, low=0.25, dark=dark)
    black = mat.plastic(rng)
    shapes.append(box(Label.TRAIN, black, (-width / 2 - 0.01, width / 2 + 0.01), (-0.35, 0.35), (0.3, height + 0.01)))
    shapes.append(box(Label.TRAIN, black, (-0.7, 0.7), (-length * 0.2, -length * 0.1), (height, height + 0.5)))
    shapes += _lamps(Label.TRAIN, width, -length / 2 - 0.01, length / 2 + 0.01, 0.8, dark=dark, braking=braking)
    return Vehicle("train", tuple(shapes), width, length)


def _coach(rng: Rng, label: Label, length: float, width: float, height: float, *, low: float, dark: bool) -> list[Shape]:
    paint, glass = mat.lacquer(rng), mat.glass(rng)
    if dark:
        glass = mat.glow((0.6, 0.55, 0.42), 0.35)
    w, front, rear = width / 2, -length / 2, length / 2
    shapes = [
        box(label, paint, (-w, w), (front, rear), (low, height)),
        box(label, mat.plastic(rng), (-w + 0.1, w - 0.1), (front + 0.1, rear - 0.1), (0.12, low + 0.02)),
        box(label, glass, (-w - 0.012, w + 0.012), (front + 0.5, rear - 0.5), (1.3, height - 0.55)).shadowless(),
        box(label, glass, (-w + 0.12, w - 0.12), (front - 0.012, front + 0.1), (1.0, height - 0.5)).shadowless(),
        box(label, glass, (-w + 0.25, w - 0.25), (rear - 0.1, rear + 0.012), (1.5, height - 0.6)).shadowless(),
        box(label, mat.glow((0.9, 0.5, 0.1), 0.8), (-w * 0.6, w * 0.6), (front - 0.015, front), (height - 0.42, height - 0.18)),
    ]
    for y in np.linspace(front + 1.6, rear - 1.6, max(3, int(length / 1.5))).tolist():
        shapes.append(box(label, paint, (-w - 0.014, w + 0.014), (y - 0.05, y + 0.05), (1.2, height - 0.5)).shadowless())
    return shapes


def bicycle(rng: Rng) -> Vehicle:
    """A bicycle; its rider is a piece of its own."""
    label, frame, tyre = Label.BICYCLE, mat.lacquer(rng), mat.rubber(rng)
    shapes = [
        wheel(label, tyre, 0.0, -0.52, 0.34, 0.025),
        wheel(label, tyre, 0.0, 0.52, 0.34, 0.025),
        _bar(label, frame, (0.0, 0.06, 0.55), (0.02, 0.36, 0.02), 0.0),
        _bar(label, frame, (0.0, -0.2, 0.5), (0.02, 0.02, 0.27), 0.5),
        _bar(label, frame, (0.0, 0.28, 0.6), (0.02, 0.02, 0.28), -0.25),
        box(label, frame, (-0.28, 0.28), (-0.42, -0.38), (0.98, 1.02)),
        box(label, mat.plastic(rng), (-0.07, 0.07), (0.18, 0.42), (0.88, 0.95)),
        _bar(label, frame, (0.0, -0.45, 0.7), (0.02, 0.02, 0.34), 0.2),
    ]
    return Vehicle("bicycle", tuple(shapes), 0.6, 1.75)


def motorcycle(rng: Rng, *, dark: bool) -> Vehicle:
    label, paint, black = Label.MOTORCYCLE, mat.lacquer(rng), mat.plastic(rng)
    shapes = [
        wheel(label, mat.rubber(rng), 0.0, -0.68, 0.32, 0.07),
        wheel(label, mat.rubber(rng), 0.0, 0.68, 0.32, 0.09),
        box(label, black, (-0.14, 0.14), (-0.35, 0.45), (0.28, 0.65)),
        ellipsoid(label, paint, (0.0, -0.15, 0.8), (0.19, 0.36, 0.17)),
        box(label, black, (-0.14, 0.14), (0.05, 0.75), (0.75, 0.85)),
        box(label, paint, (-0.13, 0.13), (0.6, 0.9), (0.7, 0.86)),
        _bar(label, black, (0.0, -0.55, 0.65), (0.06, 0.03, 0.38), 0.35),
        box(label, black, (-0.35, 0.35), (-0.42, -0.37), (0.98, 1.03)),
        box(label, mat.glow(_WHITE, 5.0 if dark else 0.0), (-0.09, 0.09), (-0.6, -0.56), (0.82, 0.96)).shadowless(),
        box(label, mat.glow(_RED, 0.9 if dark else 0.0), (-0.09, 0.09), (0.9, 0.92), (0.72, 0.82)).shadowless(),
    ]
    return Vehicle("motorcycle", tuple(shapes), 0.75, 2.1)


def _bar(
    label: Label, material: Material, centre: tuple[float, float, float], half: tuple[float, float, float], lean: float
) -> Shape:
    return block(label, material, centre, half, leaning(lean))


def disc(label: Label, material: Material, x: float, y: float, z: float, radius: float, half: float) -> Shape:
    """A flat round thing that faces -y."""
    flat = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)  # a cylinder's own z becomes -y
    return Shape(Kind.CYLINDER, label, material, (x, y, z), (radius, radius, half), flat)
