"""Draws a street: the road's lanes and marks, who drives and walks there, and what stands beside it.

Everything is placed along and across the road. The car that carries the camera is at along = 0 in its lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from mtl.datasets.worlds.materials import Colour, Rng
from mtl.datasets.worlds.shapes import Piece, Shape, box, cylinder

from . import people, roadside, vehicles
from . import street_materials as mat
from .classes import OBJECT_CLASSES, Label, Scene
from .road import FAR_M, Mark, Road, Stripes, Zone
from .scene import Ground, Lamp, Street
from .vehicles import Vehicle

__all__ = ["BUMPER_M", "make_street"]

BUMPER_M = 2.0
"""From the camera to the front of its car."""
_END_M = 110.0
_WHITE: Colour = (0.8, 0.8, 0.77)
_YELLOW: Colour = (0.75, 0.52, 0.06)


def make_street(rng: Rng, scene: Scene, *, left_hand: bool, dark: bool, wet: float) -> Street:
    """A street of a kind; `dark` and `wet` change what lamps and asphalt are made of, and nothing that is placed."""
    road = _draw_road(rng, scene, left_hand=left_hand)
    ground = Ground(mat.asphalt(rng, wet), mat.asphalt(rng, wet), mat.concrete(rng), mat.pavement(rng), mat.grass(rng))
    made = _Maker(rng, road, scene, dark=dark)
    made.traffic()
    made.parked()
    made.crossing()
    made.walkers()
    made.cyclists()
    made.furniture()
    made.scenery()
    return Street(scene, made.blocked_road(), ground, tuple(made.pieces), tuple(made.classes), tuple(made.lamps))


def _draw_road(rng: Rng, scene: Scene, *, left_hand: bool) -> Road:
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


class _Maker:
    """Places pieces along a road."""

    def __init__(self, rng: Rng, road: Road, scene: Scene, *, dark: bool) -> None:
        self.rng, self.road, self.scene, self.dark = rng, road, scene, dark
        self.pieces: list[Piece] = []
        self.classes: list[int | None] = []
        self.lamps: list[Lamp] = []
        self._blocked = [FAR_M] * road.forward
        self._taken: list[tuple[float, float, float]] = []  # along, across, radius

    # ---- placing

    def add(
        self, name: str, shapes: Sequence[Shape], along: float, across: float, *, facing: float = 0.0, object_class: str = ""
    ) -> None:
        """Place shapes whose front looks along the road, turned by `facing` radians towards the oncoming side."""
        x, y, heading = self.road.place(along, across)
        turn = -facing if self.road.left_hand else facing
        self.pieces.append(Piece(name, tuple(shapes), (x, y, 0.0), heading + turn + np.pi / 2))
        self.classes.append(OBJECT_CLASSES.index(object_class) if object_class else None)

    def _drive(self, vehicle: Vehicle, along: float, lane: int, *, across: float | None = None) -> None:
        """Place a vehicle with its middle there; it blocks the lanes that it reaches into."""
        at = self.road.lane_middle(lane) if across is None else across
        facing = 0.0 if lane >= 0 else np.pi
        self.add(vehicle.name, vehicle.shapes, along, at, facing=facing, object_class=vehicle.name)
        self._block(along - vehicle.length_m / 2, at, vehicle.width_m / 2)

    def _block(self, along: float, across: float, half_m: float) -> None:
        """Something whose near end is so far along: lanes that it reaches into by a quarter metre are free up to there."""
        if along <= BUMPER_M:
            return
        for lane in range(self.road.forward):
            low, high = -(lane + 1) * self.road.lane_m + 0.25, -lane * self.road.lane_m - 0.25
            if across + half_m > low and across - half_m < high:
                self._blocked[lane] = min(self._blocked[lane], along)

    def blocked_road(self) -> Road:
        return replace(self.road, blocked_m=tuple(self._blocked))

    def _vehicle(self, *, braking: bool) -> Vehicle:
        heavy = {"city street": 0.12, "highway": 0.25, "residential": 0.04}[self.scene]
        pick = self.rng.random()
        if pick < heavy:
            if self.scene != "highway" and self.rng.random() < 0.5:
                return vehicles.bus(self.rng, dark=self.dark, braking=braking)
            return vehicles.lorry(self.rng, dark=self.dark, braking=braking)
        if pick < heavy + 0.13:
            return vehicles.van(self.rng, dark=self.dark, braking=braking)
        return vehicles.car(self.rng, dark=self.dark, braking=braking)

    # ---- who drives

    def traffic(self) -> None:
        """Vehicles in every lane, closer together the denser the traffic is."""
        density = float(self.rng.uniform(0.15, 1.0))
        speed = {"city street": 9.0, "highway": 24.0, "residential": 10.0}[self.scene]
        tram_lane = -1 if self.scene == "city street" and self.road.backward and self.rng.random() < 0.2 else None
        for lane in (*range(self.road.forward), *range(-self.road.backward, 0)):
            braking = self.scene != "highway" and self.rng.random() < 0.35
            at = float(self.rng.uniform(5, 40)) if lane == self.road.lane else float(self.rng.uniform(-4, 30))
            if self.scene == "residential":
                at += float(self.rng.uniform(0, 40))
            while at < _END_M:
                if lane == tram_lane:
                    vehicle = vehicles.tram(self.rng, dark=self.dark)
                elif self.rng.random() < 0.08 and self.scene != "highway":
                    at += self._motorcyclist(at, lane)
                    continue
                else:
                    vehicle = self._vehicle(braking=braking)
                middle = at + vehicle.length_m / 2
                if lane == self.road.lane or middle - vehicle.length_m / 2 > 3.0 or abs(lane - self.road.lane) >= 1:
                    aside = self.road.lane_middle(lane) + float(self.rng.normal(0, 0.15))
                    self._drive(vehicle, middle, lane, across=aside)
                gap = float(self.rng.exponential(speed / density)) + (2.0 if braking else 5.0)
                at += vehicle.length_m + gap
                if self.rng.random() > 0.35 + 0.6 * density:
                    at += float(self.rng.uniform(15, 60))

    def _motorcyclist(self, at: float, lane: int) -> float:
        """Returns how much of the lane is taken."""
        bike = vehicles.motorcycle(self.rng, dark=self.dark)
        aside = self.road.lane_middle(lane) + float(self.rng.uniform(-0.6, 0.6))
        facing = 0.0 if lane >= 0 else np.pi
        self._drive(bike, at + 1.05, lane, across=aside)
        self.add("rider", people.rider(self.rng, upright=False), at + 1.05, aside, facing=facing, object_class="rider")
        return bike.length_m + float(self.rng.uniform(5, 20))

    def parked(self) -> None:
        """Rows of parked cars where there is a strip for them."""
        for oncoming in (False, True):
            strip = self.road.strip(oncoming, Zone.PARKING)
            if strip is None:
                continue
            middle, full = (strip[0] + strip[1]) / 2, float(self.rng.uniform(0.2, 0.95))
            at = float(self.rng.uniform(2, 9))
            while at < 85:
                if self.rng.random() < full:
                    kind = vehicles.van if self.rng.random() < 0.12 else vehicles.car
                    vehicle = kind(self.rng, dark=False)
                    along = at + vehicle.length_m / 2
                    facing = np.pi if oncoming != (self.rng.random() < 0.08) else 0.0
                    across = middle + float(self.rng.normal(0, 0.06))
                    self.add(vehicle.name, vehicle.shapes, along, across, facing=facing, object_class=vehicle.name)
                    at += vehicle.length_m
                at += float(self.rng.uniform(0.6, 1.6)) if self.rng.random() < full else float(self.rng.uniform(3, 12))

    def crossing(self) -> None:
        """People on a crosswalk, and traffic lights at it."""
        stripes = self.road.stripes
        if stripes is None:
            return
        low, high = self.road.edges
        middle = (stripes.start_m + stripes.end_m) / 2
        lights = self.rng.random() < 0.8
        walking = int(self.rng.poisson(1.5)) if self.rng.random() < 0.6 else 0
        for _ in range(walking):
            along = float(self.rng.uniform(stripes.start_m + 0.3, stripes.end_m - 0.3))
            across = float(self.rng.uniform(low, high))
            if not self._free(along, across, 1.0):
                continue
            facing = float(self.rng.choice([-1.0, 1.0])) * np.pi / 2
            self.add("pedestrian", people.pedestrian(self.rng), along, across, facing=facing, object_class="pedestrian")
            self._block(along - 0.4, across, 0.4)
        if lights:
            state: Literal["red", "amber", "green"] = ("red", "green", "amber")[int(self.rng.choice(3, p=[0.45, 0.45, 0.1]))]
            own, other = self.road.strip(False, Zone.CURB), self.road.strip(True, Zone.CURB)
            for curb, out in ((own, -1.0), (other, 1.0)):
                if curb is not None:
                    self._light(middle + 2.5, curb[1] + out * 0.4, state)
            if self.rng.random() < 0.5:
                self._light(stripes.end_m + 12.0, self.road.lane_middle(self.road.lane), state, overhead=True)

    def _light(self, along: float, across: float, state: Literal["red", "amber", "green"], *, overhead: bool = False) -> None:
        height = 5.6 if overhead else float(self.rng.uniform(2.9, 3.6))
        shapes = roadside.traffic_light(self.rng, height, state, dark=self.dark)
        self.add("traffic light", shapes, along, across, facing=np.pi, object_class="traffic light")
        if overhead:
            reach = across - self.road.outer_edge(False) + 1.0
            arm = mat.metal(self.rng)
            mast = (
                cylinder(Label.POLE, arm, reach, 0.15, (0, 6.3), 0.1),
                box(Label.POLE, arm, (0, reach), (0.1, 0.2), (6.15, 6.3)),
            )
            self.add("mast", mast, along, across, facing=0.0)
            return
        self.add("pole", roadside.pole(self.rng, height + 0.4), along + 0.16, across)

    # ---- who walks and cycles

    def _free(self, along: float, across: float, radius: float) -> bool:
        """Whether nothing else was placed there; takes the place where not."""
        x, y, _ = self.road.place(along, across)
        for piece in self.pieces:
            if abs(piece.position_m[0] - x) < 3.2 and abs(piece.position_m[1] - y) < 1.8 and piece.name in _ON_ROAD:
                return False
        if any(np.hypot(along - a, across - c) < radius + r for a, c, r in self._taken):
            return False
        self._taken.append((along, across, radius))
        return True

    def walkers(self) -> None:
        """People on the sidewalks, alone or in pairs; now and then somebody steps onto the road."""
        mean = {"city street": 11.0, "residential": 4.0, "highway": 0.0}[self.scene]
        for _ in range(int(self.rng.poisson(mean * float(self.rng.uniform(0.3, 1.5))))):
            oncoming = bool(self.rng.random() < 0.5)
            strip = self.road.strip(oncoming, Zone.SIDEWALK)
            if strip is None:
                continue
            along = float(np.exp(self.rng.uniform(np.log(5), np.log(70))))
            across = float(self.rng.uniform(*sorted(strip)))
            for beside in range(1 if self.rng.random() < 0.7 else 2):
                facing = float(self.rng.choice([0.0, np.pi])) + float(self.rng.normal(0, 0.4))
                place = across + 0.6 * beside
                if self._free(along, place, 0.3):
                    self.add("pedestrian", people.pedestrian(self.rng), along, place, facing=facing, object_class="pedestrian")
        if self.scene != "highway" and self.rng.random() < 0.12:
            along, across = float(self.rng.uniform(8, 40)), float(self.rng.uniform(*self.road.edges))
            if self._free(along, across, 0.5):
                facing = float(self.rng.choice([-1.0, 1.0])) * np.pi / 2
                self.add("pedestrian", people.pedestrian(self.rng), along, across, facing=facing, object_class="pedestrian")
                self._block(along - 0.4, across, 0.4)

    def cyclists(self) -> None:
        """Cyclists at the edge of the lanes, bicycles that stand on the sidewalk."""
        if self.scene == "highway":
            return
        for _ in range(int(self.rng.poisson(1.3))):
            oncoming = bool(self.road.backward) and bool(self.rng.random() < 0.4)
            edge, out = self.road.edges[oncoming], 1.0 if oncoming else -1.0
            along, across = float(self.rng.uniform(6, 60)), edge - out * float(self.rng.uniform(0.5, 0.9))
            if not self._free(along, across, 1.0):
                continue
            facing = np.pi if oncoming else 0.0
            bike = vehicles.bicycle(self.rng)
            self.add("bicycle", bike.shapes, along, across, facing=facing, object_class="bicycle")
            self.add("rider", people.rider(self.rng, upright=True), along, across, facing=facing, object_class="rider")
            self._block(along - 0.9, across, 0.3)
        for _ in range(int(self.rng.poisson(0.5))):
            oncoming = bool(self.rng.random() < 0.5)
            strip = self.road.strip(oncoming, Zone.SIDEWALK)
            if strip is not None:
                along, across = float(self.rng.uniform(6, 40)), float(self.rng.uniform(*sorted(strip)))
                if self._free(along, across, 0.9):
                    facing = float(self.rng.uniform(0, 2 * np.pi))
                    self.add("bicycle", vehicles.bicycle(self.rng).shapes, along, across, facing=facing, object_class="bicycle")

    # ---- what stands beside

    def furniture(self) -> None:
        """Lamps, signs and bollards between road and houses."""
        spacing = float(self.rng.uniform(18, 35))
        lit = self.scene != "highway" or self.rng.random() < 0.5
        both = bool(self.rng.random() < 0.5)
        for oncoming in (False, True):
            out = 1.0 if oncoming else -1.0
            at = self.road.edges[oncoming]
            curb = self.road.strip(oncoming, Zone.CURB)
            beside = (curb[1] if curb is not None else self.road.outer_edge(oncoming)) + out * 0.5
            if self.scene == "highway":
                beside = at + out * (self.road.strips[oncoming][0][1] + 0.8)
            if lit and (both or not oncoming):
                for along in np.arange(float(self.rng.uniform(2, spacing)), 90, spacing).tolist():
                    self._lamp(along, beside, oncoming)
            for along in self.rng.uniform(8, 70, int(self.rng.poisson(1.6 if not oncoming else 0.8))).tolist():
                self._sign(float(along), beside + out * float(self.rng.uniform(0, 0.5)), oncoming)
            if self.scene == "city street":
                for along in self.rng.uniform(5, 60, int(self.rng.poisson(1.0))).tolist():
                    self.add("pole", roadside.pole(self.rng, float(self.rng.uniform(0.8, 9.0)), 0.08), float(along), beside)
        if self.scene == "highway" and self.rng.random() < 0.45:
            self._gantry(float(self.rng.uniform(25, 75)))

    def _lamp(self, along: float, across: float, oncoming: bool) -> None:
        facing = -np.pi / 2 if oncoming else np.pi / 2
        self.add("lamp", roadside.lamp_post(self.rng, dark=self.dark), along, across, facing=facing)
        strength = float(self.rng.uniform(1.5, 3.5))
        if self.dark:
            x, y, _ = self.road.place(along, across + (-1.4 if oncoming else 1.4))
            warm: Colour = (strength, 0.8 * strength, 0.52 * strength)
            self.lamps.append(Lamp((x, y, roadside.LAMP_HEIGHT_M - 0.3), warm))

    def _sign(self, along: float, across: float, oncoming: bool) -> None:
        kinds: tuple[roadside.Sign, ...] = ("stop", "limit", "ring", "warning", "parking", "guide")
        kind = kinds[int(self.rng.choice(6, p=[0.1, 0.28, 0.17, 0.15, 0.15, 0.15]))]
        height = float(self.rng.uniform(1.9, 2.8))
        facing = 0.0 if oncoming else np.pi
        facing += float(self.rng.normal(0, 0.12))
        self.add("sign", roadside.sign(self.rng, kind, height, dark=self.dark), along, across, facing=facing,
                 object_class="traffic sign")  # fmt: skip
        self.add("pole", roadside.pole(self.rng, height + 0.3, 0.035), along + (0.06 if not oncoming else -0.06), across)

    def _gantry(self, along: float) -> None:
        low = self.road.edges[0] - self.road.strips[0][0][1] - 1.0
        high = self.road.median_m / 2
        poles, signs = roadside.gantry(self.rng, high - low, dark=self.dark)
        middle = (low + high) / 2
        self.add("gantry", poles, along, middle, facing=np.pi)
        for one in signs:
            self.add("sign", one, along, middle, facing=np.pi, object_class="traffic sign")

    def scenery(self) -> None:
        """Houses, trees, hedges and fences, row behind row, and something at the end of the road."""
        for oncoming in (False, True):
            if self.scene == "city street":
                self._city_side(oncoming)
            elif self.scene == "residential":
                self._garden_side(oncoming)
            else:
                self._country_side(oncoming)
        if self.road.median_m > 1.2:
            self._median()
        self._horizon()

    def _city_side(self, oncoming: bool) -> None:
        out, edge = (1.0 if oncoming else -1.0), self.road.outer_edge(oncoming)
        facing = -np.pi / 2 if oncoming else np.pi / 2
        strip = self.road.strip(oncoming, Zone.SIDEWALK)
        if strip is not None and self.rng.random() < 0.55:
            spacing = float(self.rng.uniform(7, 14))
            for along in np.arange(float(self.rng.uniform(4, 10)), 85, spacing).tolist():
                if self.rng.random() < 0.8:
                    self.add("tree", roadside.tree(self.rng), along, strip[0] + out * 0.9)
        at = float(self.rng.uniform(-6, 4))
        while at < 125:
            width, depth = float(self.rng.uniform(8, 24)), float(self.rng.uniform(8, 14))
            if self.rng.random() < 0.1:
                self._gap(at, edge, width, oncoming)
            else:
                back = float(self.rng.uniform(0.1, 1.2))
                bend = abs(self.road.curvature) * width * width / 8
                shapes = roadside.building(self.rng, width - 0.3, depth, dark=self.dark)
                self.add("building", shapes, at + width / 2, edge + out * (depth / 2 + back + bend), facing=facing)
            at += width + (float(self.rng.uniform(2, 10)) if self.rng.random() < 0.2 else 0.0)

    def _gap(self, at: float, edge: float, width: float, oncoming: bool) -> None:
        out = 1.0 if oncoming else -1.0
        facing = -np.pi / 2 if oncoming else np.pi / 2
        row = roadside.fence if self.rng.random() < 0.5 else roadside.hedge
        self.add("row", row(self.rng, width * 0.9), at + width / 2, edge + out * 0.4, facing=facing)
        for along in self.rng.uniform(at, at + width, 2).tolist():
            self.add("tree", roadside.tree(self.rng), float(along), edge + out * float(self.rng.uniform(3, 9)))

    def _garden_side(self, oncoming: bool) -> None:
        out, edge = (1.0 if oncoming else -1.0), self.road.outer_edge(oncoming)
        facing = -np.pi / 2 if oncoming else np.pi / 2
        bound = self.road.strip(oncoming, Zone.SIDEWALK) or self.road.strip(oncoming, Zone.CURB)
        front = (bound[1] if bound is not None else edge) + out * 0.4
        rows = (roadside.fence, roadside.hedge, roadside.barrier, None)
        row = rows[int(self.rng.integers(4))]
        at = float(self.rng.uniform(-8, 4))
        while at < 120:
            width = float(self.rng.uniform(14, 24))
            back = float(self.rng.uniform(4, 9))
            self.add("house", roadside.house(self.rng, dark=self.dark), at + width / 2, edge + out * back, facing=facing)
            if row is not None:
                for piece in range(3):
                    if self.rng.random() < 0.85:
                        along = at + width * (piece + 0.5) / 3
                        self.add("row", row(self.rng, width / 3 * 0.96), along, front, facing=facing)
            for _ in range(int(self.rng.poisson(1.0))):
                along, across = at + float(self.rng.uniform(0, width)), front + out * float(self.rng.uniform(0.8, 3.0))
                shapes = roadside.tree(self.rng) if self.rng.random() < 0.6 else roadside.bush(self.rng)
                self.add("tree", shapes, along, across)
            at += width + float(self.rng.uniform(0, 5))

    def _country_side(self, oncoming: bool) -> None:
        out, edge = (1.0 if oncoming else -1.0), self.road.outer_edge(oncoming)
        facing = -np.pi / 2 if oncoming else np.pi / 2
        shoulder = self.road.edges[oncoming] + out * (self.road.strips[oncoming][0][1] + 0.3)
        if self.rng.random() < 0.6:
            self._row(roadside.barrier if self.rng.random() < 0.25 else roadside.fence, shoulder, facing)
        for _ in range(int(self.rng.integers(3, 16))):
            along, away = float(self.rng.uniform(5, 130)), float(self.rng.uniform(2, 30))
            shapes = roadside.tree(self.rng) if self.rng.random() < 0.75 else roadside.bush(self.rng)
            self.add("tree", shapes, along, edge + out * away)
        if self.rng.random() < 0.4:
            along, across = float(self.rng.uniform(40, 110)), edge + out * float(self.rng.uniform(15, 40))
            shapes = roadside.building(self.rng, float(self.rng.uniform(12, 40)), 12.0, dark=self.dark)
            self.add("building", shapes, along, across, facing=facing)

    def _median(self) -> None:
        middle, pick = self.road.median_m / 2, self.rng.random()
        if pick < 0.65:
            self._row(roadside.barrier if pick < 0.4 else roadside.fence, middle, np.pi / 2)
        elif pick < 0.85:
            for at in np.arange(5.0, 100, 10.0).tolist():
                if self.rng.random() < 0.5:
                    self.add("bush", roadside.bush(self.rng), at, middle)

    def _row(self, row: Callable[[Rng, float], tuple[Shape, ...]], across: float, facing: float) -> None:
        """The same barrier or fence along the whole road, in pieces that follow its bend."""
        seed = int(self.rng.integers(1 << 20))
        for at in np.arange(5.0, 100, 10.0).tolist():
            self.add("row", row(np.random.default_rng(seed), 10.0), at, across, facing=facing)

    def _horizon(self) -> None:
        """Far things that close the view."""
        for _ in range(int(self.rng.integers(4, 11))):
            angle, away = float(self.rng.uniform(-0.9, 0.9)), float(self.rng.uniform(140, 260))
            x, y = away * float(np.cos(angle)), away * float(np.sin(angle))
            side = -1.0 if self.road.left_hand else 1.0
            if self.scene == "city street" and self.rng.random() < 0.6:
                shapes = roadside.building(self.rng, float(self.rng.uniform(15, 50)), 15.0, dark=self.dark)
            else:
                shapes = tuple(
                    Shape(one.kind, one.label, one.material, tuple(2.5 * v for v in one.centre_m), tuple(2.5 * v for v in one.half_m),
                          one.tilt, one.casts_shadow)
                    for one in roadside.tree(self.rng)
                )  # fmt: skip
            yaw = float(np.arctan2(y * side, x)) + np.pi / 2 + np.pi
            self.pieces.append(Piece("horizon", shapes, (x, y * side, 0.0), yaw))
            self.classes.append(None)


_ON_ROAD = {"car", "truck", "bus", "train", "motorcycle"}
