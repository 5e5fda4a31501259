"""Draws a road: its lanes, its bend, what lies beside them, and the marks on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtl.datasets.worlds.materials import Colour, Rng

from .classes import Scene
from .road import FAR_M, Mark, Road, Stripes, Zone

__all__ = ["draw_road"]

_WHITE: Colour = (0.8, 0.8, 0.77)
_YELLOW: Colour = (0.75, 0.52, 0.06)


def draw_road(rng: Rng, scene: Scene, *, left_hand: bool) -> Road:
    straight = rng.random() < 0.35
    least = {"city street": 90.0, "highway": 300.0, "residential": 55.0}[scene]
    curvature = 0.0 if straight else float(rng.choice([-1.0, 1.0])) / float(np.exp(rng.uniform(np.log(least), np.log(2500))))
    median = 0.0
    if scene == "highway":
        forward, backward, lane_m = int(rng.integers(2, 5)), int(rng.integers(2, 5)), float(rng.uniform(3.4, 3.8))
        median = float(rng.uniform(1.5, 6.0))
    elif scene == "city street":
        forward, backward, lane_m = int(rng.integers(1, 4)), int(rng.integers(0, 4)), float(rng.uniform(2.9, 3.5))
        if forward + backward == 1:
            forward = 2
        median = float(rng.uniform(1.0, 3.0)) if backward and rng.random() < 0.2 else 0.0
    else:
        forward, backward, lane_m = 1, 1, float(rng.uniform(2.7, 3.3))
    lane = int(rng.integers(forward))
    strips = _strips(rng, scene), _strips(rng, scene)
    road = Road(curvature, lane_m, forward, backward, lane, strips, median, (), None, (FAR_M,) * forward, left_hand)
    stripes = None
    if scene != "highway" and rng.random() < (0.65 if scene == "city street" else 0.3):
        start = float(rng.uniform(7, 45))
        end = start + float(rng.uniform(2.5, 4.5))
        stripes = Stripes(start, end, start - float(rng.uniform(1.0, 2.5)))
    return replace(road, marks=_marks(rng, road, scene), stripes=stripes)


def _strips(rng: Rng, scene: Scene) -> tuple[tuple[Zone, float], ...]:
    if scene == "highway":
        return (Zone.ASPHALT, float(rng.uniform(1.5, 3.2))), (Zone.GRASS, float(rng.uniform(4, 12)))
    found: list[tuple[Zone, float]] = []
    if rng.random() < 0.5:
        found.append((Zone.PARKING, float(rng.uniform(2.0, 2.4))))
    found.append((Zone.CURB, float(rng.uniform(0.15, 0.3))))
    if scene == "residential":
        if rng.random() < 0.5:
            found.append((Zone.GRASS, float(rng.uniform(0.8, 2.0))))
        if rng.random() < 0.75:
            found.append((Zone.SIDEWALK, float(rng.uniform(1.3, 2.2))))
        found.append((Zone.GRASS, float(rng.uniform(3, 8))))
        return tuple(found)
    found.append((Zone.SIDEWALK, float(rng.uniform(2.2, 5.0))))
    if rng.random() < 0.2:
        found.append((Zone.GRASS, float(rng.uniform(2, 6))))
    return tuple(found)


def _marks(rng: Rng, road: Road, scene: Scene) -> tuple[Mark, ...]:
    width = float(rng.uniform(0.11, 0.2))
    dash, gap = ((3.0, 9.0), (3.0, 6.0), (6.0, 12.0), (2.0, 4.0), (1.5, 3.0))[int(rng.integers(5))]
    phase = float(rng.uniform(0, dash + gap))
    yellow_middle = rng.random() < 0.6
    middle, word = (_YELLOW, "yellow") if yellow_middle else (_WHITE, "white")
    found = []
    own_edge, other_edge = road.edges
    for lane in range(1, road.forward):
        found.append(Mark(-lane * road.lane_m, width, "single white", _WHITE, dash, dash + gap, phase))
    for lane in range(1, road.backward):
        found.append(Mark(road.median_m + lane * road.lane_m, width, "single white", _WHITE, dash, dash + gap, phase))
    if road.median_m:
        for at in (-0.15, road.median_m + 0.15):
            found.append(Mark(at, width, f"single {word}", middle))
    elif road.backward:
        pick = rng.random()
        if scene == "residential" and pick < 0.35:
            pass
        elif pick < 0.5:
            found.append(Mark(0.0, 0.12, f"double {word}", middle, double=True))
        elif pick < 0.8:
            found.append(Mark(0.0, width, f"single {word}", middle, dash, dash + gap, phase))
        else:
            found.append(Mark(0.0, width, f"single {word}", middle))
    if scene == "highway" or rng.random() < (0.45 if scene == "city street" else 0.15):
        found.append(Mark(own_edge + 0.15, width, "single white", _WHITE))
        if road.backward:
            found.append(Mark(other_edge - 0.15, width, "single white", _WHITE))
        else:
            found.append(Mark(other_edge - 0.15, width, f"single {word}", middle))
    return tuple(found)
