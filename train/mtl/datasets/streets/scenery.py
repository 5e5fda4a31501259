"""What closes the view beside a road: houses, trees, hedges and fences, row behind row, and far things at its end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mtl.datasets.worlds.materials import Rng
from mtl.datasets.worlds.shapes import Piece, Shape

from . import roadside
from .road import Zone
from .site import Site

__all__ = ["scenery"]


def scenery(site: Site) -> None:
    """Houses, trees, hedges and fences, row behind row, and something at the end of the road."""
    for oncoming in (False, True):
        if site.scene == "city street":
            _city_side(site, oncoming)
        elif site.scene == "residential":
            _garden_side(site, oncoming)
        else:
            _country_side(site, oncoming)
    if site.road.median_m > 1.2:
        _median(site)
    _horizon(site)


def _city_side(site: Site, oncoming: bool) -> None:
    out, edge = (1.0 if oncoming else -1.0), site.road.outer_edge(oncoming)
    facing = -np.pi / 2 if oncoming else np.pi / 2
    strip = site.road.strip(oncoming, Zone.SIDEWALK)
    if strip is not None and site.rng.random() < 0.55:
        spacing = float(site.rng.uniform(7, 14))
        for along in np.arange(float(site.rng.uniform(4, 10)), 85, spacing).tolist():
            if site.rng.random() < 0.8:
                site.add("tree", roadside.tree(site.rng), along, strip[0] + out * 0.9)
    at = float(site.rng.uniform(-6, 4))
    while at < 125:
        width, depth = float(site.rng.uniform(8, 24)), float(site.rng.uniform(8, 14))
        if site.rng.random() < 0.1:
            _gap(site, at, edge, width, oncoming)
        else:
            back = float(site.rng.uniform(0.1, 1.2))
            bend = abs(site.road.curvature) * width * width / 8
            shapes = roadside.building(site.rng, width - 0.3, depth, dark=site.dark)
            site.add("building", shapes, at + width / 2, edge + out * (depth / 2 + back + bend), facing=facing)
        at += width + (float(site.rng.uniform(2, 10)) if site.rng.random() < 0.2 else 0.0)


def _gap(site: Site, at: float, edge: float, width: float, oncoming: bool) -> None:
    out = 1.0 if oncoming else -1.0
    facing = -np.pi / 2 if oncoming else np.pi / 2
    row = roadside.fence if site.rng.random() < 0.5 else roadside.hedge
    site.add("row", row(site.rng, width * 0.9), at + width / 2, edge + out * 0.4, facing=facing)
    for along in site.rng.uniform(at, at + width, 2).tolist():
        site.add("tree", roadside.tree(site.rng), float(along), edge + out * float(site.rng.uniform(3, 9)))


def _garden_side(site: Site, oncoming: bool) -> None:
    out, edge = (1.0 if oncoming else -1.0), site.road.outer_edge(oncoming)
    facing = -np.pi / 2 if oncoming else np.pi / 2
    bound = site.road.strip(oncoming, Zone.SIDEWALK) or site.road.strip(oncoming, Zone.CURB)
    front = (bound[1] if bound is not None else edge) + out * 0.4
    rows = (roadside.fence, roadside.hedge, roadside.barrier, None)
    row = rows[int(site.rng.integers(4))]
    at = float(site.rng.uniform(-8, 4))
    while at < 120:
        width = float(site.rng.uniform(14, 24))
        back = float(site.rng.uniform(4, 9))
        site.add("house", roadside.house(site.rng, dark=site.dark), at + width / 2, edge + out * back, facing=facing)
        if row is not None:
            for piece in range(3):
                if site.rng.random() < 0.85:
                    along = at + width * (piece + 0.5) / 3
                    site.add("row", row(site.rng, width / 3 * 0.96), along, front, facing=facing)
        for _ in range(int(site.rng.poisson(1.0))):
            along, across = at + float(site.rng.uniform(0, width)), front + out * float(site.rng.uniform(0.8, 3.0))
            shapes = roadside.tree(site.rng) if site.rng.random() < 0.6 else roadside.bush(site.rng)
            site.add("tree", shapes, along, across)
        at += width + float(site.rng.uniform(0, 5))


def _country_side(site: Site, oncoming: bool) -> None:
    out, edge = (1.0 if oncoming else -1.0), site.road.outer_edge(oncoming)
    facing = -np.pi / 2 if oncoming else np.pi / 2
    shoulder = site.road.edges[oncoming] + out * (site.road.strips[oncoming][0][1] + 0.3)
    if site.rng.random() < 0.6:
        _row(site, roadside.barrier if site.rng.random() < 0.25 else roadside.fence, shoulder, facing)
    for _ in range(int(site.rng.integers(3, 16))):
        along, away = float(site.rng.uniform(5, 130)), float(site.rng.uniform(2, 30))
        shapes = roadside.tree(site.rng) if site.rng.random() < 0.75 else roadside.bush(site.rng)
        site.add("tree", shapes, along, edge + out * away)
    if site.rng.random() < 0.4:
        along, across = float(site.rng.uniform(40, 110)), edge + out * float(site.rng.uniform(15, 40))
        shapes = roadside.building(site.rng, float(site.rng.uniform(12, 40)), 12.0, dark=site.dark)
        site.add("building", shapes, along, across, facing=facing)


def _median(site: Site) -> None:
    middle, pick = site.road.median_m / 2, site.rng.random()
    if pick < 0.65:
        _row(site, roadside.barrier if pick < 0.4 else roadside.fence, middle, np.pi / 2)
    elif pick < 0.85:
        for at in np.arange(5.0, 100, 10.0).tolist():
            if site.rng.random() < 0.5:
                site.add("bush", roadside.bush(site.rng), at, middle)


def _row(site: Site, row: Callable[[Rng, float], tuple[Shape, ...]], across: float, facing: float) -> None:
    """The same barrier or fence along the whole road, in pieces that follow its bend."""
    seed = int(site.rng.integers(1 << 20))
    for at in np.arange(5.0, 100, 10.0).tolist():
        site.add("row", row(np.random.default_rng(seed), 10.0), at, across, facing=facing)


def _horizon(site: Site) -> None:
    """Far things that close the view."""
    for _ in range(int(site.rng.integers(4, 11))):
        angle, away = float(site.rng.uniform(-0.9, 0.9)), float(site.rng.uniform(140, 260))
        x, y = away * float(np.cos(angle)), away * float(np.sin(angle))
        side = -1.0 if site.road.left_hand else 1.0
        if site.scene == "city street" and site.rng.random() < 0.6:
            shapes = roadside.building(site.rng, float(site.rng.uniform(15, 50)), 15.0, dark=site.dark)
        else:
            shapes = tuple(shape.enlarged(2.5) for shape in roadside.tree(site.rng))
        yaw = float(np.arctan2(y * side, x)) + np.pi / 2 + np.pi
        site.pieces.append(Piece("horizon", shapes, (x, y * side, 0.0), yaw))
        site.classes.append(None)
