"""Small things and free-standing ones: books, lamps, vases, plants, boxes, bins.

Functions returning a list of shapes put things on a surface; those returning an `Item` stand on the floor.
"""

from __future__ import annotations

from mtl.datasets.worlds.materials import Rng
from mtl.datasets.worlds.shapes import Item, Shape, block, box, cylinder, ellipsoid, turned

from . import materials as mat
from .labels import Label


def book_row(rng: Rng, x: tuple[float, float], back_y: float, z: float, height_m: float, depth_m: float) -> list[Shape]:
    """Upright books side by side from x[0] to x[1], with a gap now and then."""
    books: list[Shape] = []
    at = x[0]
    volume, series = mat.spine(rng), 0
    while at < x[1] - 0.025:
        if rng.random() < 0.07:
            at += rng.uniform(0.03, 0.15)
            continue
        if series <= 0:
            volume, series = mat.spine(rng), int(rng.choice([1, 1, 1, 2, 4]))
            tall, deep, thick = rng.uniform(0.62, 0.98), rng.uniform(0.75, 1.0), rng.uniform(0.022, 0.055)
        series -= 1
        end = min(at + thick, x[1])
        front = back_y - depth_m * deep
        books.append(box(Label.BOOKS, volume, (at, end - 0.003), (front, back_y), (z, z + height_m * tall)).shadowless())
        at = end
    return books


def book_stack(rng: Rng, x: float, y: float, z: float, most: int = 6) -> list[Shape]:
    """A few books lying on each other."""
    books: list[Shape] = []
    for _ in range(int(rng.integers(2, most))):
        half = float(rng.uniform(0.01, 0.022))
        size = (float(rng.uniform(0.11, 0.155)), float(rng.uniform(0.08, 0.11)), half)
        books.append(block(Label.BOOKS, mat.spine(rng), (x, y, z + half), size, turned(rng.uniform(-0.3, 0.3))))
        z += 2 * half
    return books


def table_lamp(rng: Rng, x: float, y: float, z: float) -> list[Shape]:
    stand, shade, tall = mat.decorated(rng), mat.lampshade(rng), float(rng.uniform(0.2, 0.35))
    return [
        cylinder(Label.OBJECTS, stand, x, y, (z, z + 0.02), 0.08),
        cylinder(Label.OBJECTS, stand, x, y, (z, z + tall), float(rng.uniform(0.015, 0.045))),
        cylinder(Label.OBJECTS, shade, x, y, (z + tall - 0.05, z + tall + 0.15), float(rng.uniform(0.09, 0.15))),
    ]


def vase(rng: Rng, x: float, y: float, z: float) -> list[Shape]:
    glaze, r = mat.decorated(rng), float(rng.uniform(0.04, 0.09))
    shapes = [ellipsoid(Label.OBJECTS, glaze, (x, y, z + 1.3 * r), (r, r, 1.3 * r))]
    shapes.append(cylinder(Label.OBJECTS, glaze, x, y, (z + 2 * r, z + 3.2 * r), 0.4 * r))
    if rng.random() < 0.5:
        leaf = mat.foliage(rng)
        for _ in range(3):
            dx, dy = rng.normal(0, 0.05, 2)
            shapes.append(ellipsoid(Label.OBJECTS, leaf, (x + dx, y + dy, z + 4.2 * r), (0.05, 0.05, 0.09)).shadowless())
    return shapes


def clutter(
    rng: Rng, x: tuple[float, float], y: tuple[float, float], z: float, count: int, *, lamps: bool = True
) -> list[Shape]:
    """`count` small things spread over a rectangle at height z."""
    shapes: list[Shape] = []
    for _ in range(count):
        at = (float(rng.uniform(*x)), float(rng.uniform(*y)))
        pick = rng.random()
        if pick < 0.2:
            top = z + float(rng.uniform(0.08, 0.22))
            shapes.append(cylinder(Label.OBJECTS, mat.decorated(rng), *at, (z, top), float(rng.uniform(0.03, 0.055))))
        elif pick < 0.35:
            shapes += vase(rng, *at, z)
        elif pick < 0.5:
            r = float(rng.uniform(0.06, 0.12))
            shapes.append(ellipsoid(Label.OBJECTS, mat.decorated(rng), (*at, z + 0.45 * r), (r, r, 0.45 * r)))
        elif pick < 0.65:
            w, d, h = (float(v) for v in rng.uniform(0.04, 0.11, 3))
            shapes.append(block(Label.OBJECTS, mat.decorated(rng), (*at, z + h), (w, d, h), turned(rng.uniform(0, 3))))
        elif pick < 0.87 or not lamps:
            shapes += book_stack(rng, *at, z)
        else:
            shapes += table_lamp(rng, *at, z)
    return shapes


def plant(rng: Rng) -> Item:
    leaf, r, h = mat.foliage(rng), float(rng.uniform(0.13, 0.2)), float(rng.uniform(0.25, 0.4))
    shapes = [cylinder(Label.OBJECTS, mat.decorated(rng), 0, 0, (0, h), r)]
    top = float(rng.uniform(0.5, 0.9))
    for _ in range(int(rng.integers(8, 14))):
        dx, dy = rng.normal(0, 0.12, 2)
        centre = (float(dx), float(dy), h + float(rng.uniform(0.05, top)))
        radii = (float(rng.uniform(0.05, 0.15)), float(rng.uniform(0.03, 0.08)), float(rng.uniform(0.06, 0.16)))
        shapes.append(ellipsoid(Label.OBJECTS, leaf.shaded(rng.uniform(0.8, 1.2)), centre, radii, turned(rng.uniform(0, 3))))
    return Item("plant", tuple(shapes), 2 * r + 0.15, 2 * r + 0.15, h + top)


def bin_(rng: Rng) -> Item:
    r, h = float(rng.uniform(0.12, 0.18)), float(rng.uniform(0.28, 0.55))
    rim, body = mat.metal(rng), mat.plastic(rng)
    shapes = (
        cylinder(Label.OBJECTS, body, 0, 0, (0, h), r),
        cylinder(Label.OBJECTS, rim, 0, 0, (h - 0.03, h + 0.002), r + 0.006),
    )
    return Item("bin", shapes, 2 * r + 0.02, 2 * r + 0.02, h)


def boxes(rng: Rng) -> Item:
    """A pile of cardboard or storage boxes."""
    shapes: list[Shape] = []
    z = 0.0
    for _ in range(int(rng.integers(1, 4))):
        w, d, h = (float(v) for v in rng.uniform(0.12, 0.26, 3))
        cover = mat.cardboard(rng) if rng.random() < 0.7 else mat.plastic(rng)
        turn = turned(rng.uniform(-0.2, 0.2))
        shapes.append(block(Label.OBJECTS, cover, (0, 0, z + h), (w, d, h), turn))
        shapes.append(
            block(Label.OBJECTS, cover.shaded(0.75), (0, 0, z + 2 * h), (w + 0.004, d * 0.12, 0.003), turn).shadowless()
        )
        z += 2 * h
    return Item("boxes", tuple(shapes), 0.56, 0.56, z)


def floor_lamp(rng: Rng) -> Item:
    stand, shade, h = mat.metal(rng), mat.lampshade(rng), float(rng.uniform(1.3, 1.7))
    shapes = (
        cylinder(Label.OBJECTS, stand, 0, 0, (0, 0.03), 0.14),
        cylinder(Label.OBJECTS, stand, 0, 0, (0, h), 0.015),
        cylinder(Label.OBJECTS, shade, 0, 0, (h - 0.1, h + 0.2), float(rng.uniform(0.15, 0.22))),
    )
    return Item("floor_lamp", shapes, 0.44, 0.44, h + 0.2)


def suitcase(rng: Rng) -> Item:
    """A bag standing on the floor."""
    w, d, h = float(rng.uniform(0.2, 0.27)), float(rng.uniform(0.1, 0.15)), float(rng.uniform(0.25, 0.36))
    body, trim = mat.plastic(rng), mat.metal(rng)
    shapes = (
        box(Label.OBJECTS, body, (-w, w), (-d, d), (0.03, 2 * h)),
        box(Label.OBJECTS, trim, (-w - 0.004, w + 0.004), (-0.012, 0.012), (0.03, 2 * h + 0.004)),
        box(Label.OBJECTS, trim, (-0.09, 0.09), (-0.015, 0.015), (2 * h, 2 * h + 0.04)),
    )
    return Item("suitcase", shapes, 2 * w + 0.02, 2 * d + 0.02, 2 * h + 0.04)
