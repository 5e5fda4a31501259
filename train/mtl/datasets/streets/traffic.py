"""Who drives, parks, walks and cycles in a street."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mtl.datasets.worlds.shapes import box, cylinder

from . import people, roadside, vehicles
from . import street_materials as mat
from .classes import Label
from .road import Zone
from .site import Site
from .vehicles import Vehicle

__all__ = ["crossing", "cyclists", "parked", "traffic", "walkers"]

_END_M = 110.0


def _vehicle(site: Site, *, braking: bool) -> Vehicle:
    heavy = {"city street": 0.12, "highway": 0.25, "residential": 0.04}[site.scene]
    pick = site.rng.random()
    if pick < heavy:
        if site.scene != "highway" and site.rng.random() < 0.5:
            return vehicles.bus(site.rng, dark=site.dark, braking=braking)
        return vehicles.lorry(site.rng, dark=site.dark, braking=braking)
    if pick < heavy + 0.13:
        return vehicles.van(site.rng, dark=site.dark, braking=braking)
    return vehicles.car(site.rng, dark=site.dark, braking=braking)


def traffic(site: Site) -> None:
    """Vehicles in every lane, closer together the denser the traffic is."""
    density = float(site.rng.uniform(0.15, 1.0))
    speed = {"city street": 9.0, "highway": 24.0, "residential": 10.0}[site.scene]
    tram_lane = -1 if site.scene == "city street" and site.road.backward and site.rng.random() < 0.2 else None
    for lane in (*range(site.road.forward), *range(-site.road.backward, 0)):
        braking = site.scene != "highway" and site.rng.random() < 0.35
        at = float(site.rng.uniform(5, 40)) if lane == site.road.lane else float(site.rng.uniform(-4, 30))
        if site.scene == "residential":
            at += float(site.rng.uniform(0, 40))
        while at < _END_M:
            if lane == tram_lane:
                vehicle = vehicles.tram(site.rng, dark=site.dark)
            elif site.rng.random() < 0.08 and site.scene != "highway":
                at += _motorcyclist(site, at, lane)
                continue
            else:
                vehicle = _vehicle(site, braking=braking)
            middle = at + vehicle.length_m / 2
            if lane == site.road.lane or middle - vehicle.length_m / 2 > 3.0 or abs(lane - site.road.lane) >= 1:
                aside = site.road.lane_middle(lane) + float(site.rng.normal(0, 0.15))
                site.drive(vehicle, middle, lane, across=aside)
            gap = float(site.rng.exponential(speed / density)) + (2.0 if braking else 5.0)
            at += vehicle.length_m + gap
            if site.rng.random() > 0.35 + 0.6 * density:
                at += float(site.rng.uniform(15, 60))


def _motorcyclist(site: Site, at: float, lane: int) -> float:
    """Returns how much of the lane is taken."""
    bike = vehicles.motorcycle(site.rng, dark=site.dark)
    aside = site.road.lane_middle(lane) + float(site.rng.uniform(-0.6, 0.6))
    facing = 0.0 if lane >= 0 else np.pi
    site.drive(bike, at + 1.05, lane, across=aside)
    site.add("rider", people.rider(site.rng, upright=False), at + 1.05, aside, facing=facing, object_class="rider")
    return bike.length_m + float(site.rng.uniform(5, 20))


def parked(site: Site) -> None:
    """Rows of parked cars where there is a strip for them."""
    for oncoming in (False, True):
        strip = site.road.strip(oncoming, Zone.PARKING)
        if strip is None:
            continue
        middle, full = (strip[0] + strip[1]) / 2, float(site.rng.uniform(0.2, 0.95))
        at = float(site.rng.uniform(2, 9))
        while at < 85:
            if site.rng.random() < full:
                kind = vehicles.van if site.rng.random() < 0.12 else vehicles.car
                vehicle = kind(site.rng, dark=False)
                along = at + vehicle.length_m / 2
                facing = np.pi if oncoming != (site.rng.random() < 0.08) else 0.0
                across = middle + float(site.rng.normal(0, 0.06))
                site.add(vehicle.name, vehicle.shapes, along, across, facing=facing, object_class=vehicle.name)
                at += vehicle.length_m
            at += float(site.rng.uniform(0.6, 1.6)) if site.rng.random() < full else float(site.rng.uniform(3, 12))


def crossing(site: Site) -> None:
    """People on a crosswalk, and traffic lights at it."""
    stripes = site.road.stripes
    if stripes is None:
        return
    low, high = site.road.edges
    middle = (stripes.start_m + stripes.end_m) / 2
    lights = site.rng.random() < 0.8
    walking = int(site.rng.poisson(1.5)) if site.rng.random() < 0.6 else 0
    for _ in range(walking):
        along = float(site.rng.uniform(stripes.start_m + 0.3, stripes.end_m - 0.3))
        across = float(site.rng.uniform(low, high))
        if not site.is_free(along, across, 1.0):
            continue
        facing = float(site.rng.choice([-1.0, 1.0])) * np.pi / 2
        site.add("pedestrian", people.pedestrian(site.rng), along, across, facing=facing, object_class="pedestrian")
        site.block(along - 0.4, across, 0.4)
    if lights:
        state: Literal["red", "amber", "green"] = ("red", "green", "amber")[int(site.rng.choice(3, p=[0.45, 0.45, 0.1]))]
        own, other = site.road.strip(False, Zone.CURB), site.road.strip(True, Zone.CURB)
        for curb, out in ((own, -1.0), (other, 1.0)):
            if curb is not None:
                _light(site, middle + 2.5, curb[1] + out * 0.4, state)
        if site.rng.random() < 0.5:
            _light(site, stripes.end_m + 12.0, site.road.lane_middle(site.road.lane), state, overhead=True)


def _light(site: Site, along: float, across: float, state: Literal["red", "amber", "green"], *, overhead: bool = False) -> None:
    height = 5.6 if overhead else float(site.rng.uniform(2.9, 3.6))
    shapes = roadside.traffic_light(site.rng, height, state, dark=site.dark)
    site.add("traffic light", shapes, along, across, facing=np.pi, object_class="traffic light")
    if overhead:
        reach = across - site.road.outer_edge(False) + 1.0
        arm = mat.metal(site.rng)
        mast = (
            cylinder(Label.POLE, arm, reach, 0.15, (0, 6.3), 0.1),
            box(Label.POLE, arm, (0, reach), (0.1, 0.2), (6.15, 6.3)),
        )
        site.add("mast", mast, along, across, facing=0.0)
        return
    site.add("pole", roadside.pole(site.rng, height + 0.4), along + 0.16, across)


def walkers(site: Site) -> None:
    """People on the sidewalks, alone or in pairs; now and then somebody steps onto the road."""
    mean = {"city street": 11.0, "residential": 4.0, "highway": 0.0}[site.scene]
    for _ in range(int(site.rng.poisson(mean * float(site.rng.uniform(0.3, 1.5))))):
        oncoming = bool(site.rng.random() < 0.5)
        strip = site.road.strip(oncoming, Zone.SIDEWALK)
        if strip is None:
            continue
        along = float(np.exp(site.rng.uniform(np.log(5), np.log(70))))
        across = float(site.rng.uniform(min(strip), max(strip)))
        for beside in range(1 if site.rng.random() < 0.7 else 2):
            facing = float(site.rng.choice([0.0, np.pi])) + float(site.rng.normal(0, 0.4))
            place = across + 0.6 * beside
            if site.is_free(along, place, 0.3):
                site.add("pedestrian", people.pedestrian(site.rng), along, place, facing=facing, object_class="pedestrian")
    if site.scene != "highway" and site.rng.random() < 0.12:
        along, across = float(site.rng.uniform(8, 40)), float(site.rng.uniform(*site.road.edges))
        if site.is_free(along, across, 0.5):
            facing = float(site.rng.choice([-1.0, 1.0])) * np.pi / 2
            site.add("pedestrian", people.pedestrian(site.rng), along, across, facing=facing, object_class="pedestrian")
            site.block(along - 0.4, across, 0.4)


def cyclists(site: Site) -> None:
    """Cyclists at the edge of the lanes, bicycles that stand on the sidewalk."""
    if site.scene == "highway":
        return
    for _ in range(int(site.rng.poisson(1.3))):
        oncoming = bool(site.road.backward) and bool(site.rng.random() < 0.4)
        edge, out = site.road.edges[oncoming], 1.0 if oncoming else -1.0
        along, across = float(site.rng.uniform(6, 60)), edge - out * float(site.rng.uniform(0.5, 0.9))
        if not site.is_free(along, across, 1.0):
            continue
        facing = np.pi if oncoming else 0.0
        bike = vehicles.bicycle(site.rng)
        site.add("bicycle", bike.shapes, along, across, facing=facing, object_class="bicycle")
        site.add("rider", people.rider(site.rng, upright=True), along, across, facing=facing, object_class="rider")
        site.block(along - 0.9, across, 0.3)
    for _ in range(int(site.rng.poisson(0.5))):
        oncoming = bool(site.rng.random() < 0.5)
        strip = site.road.strip(oncoming, Zone.SIDEWALK)
        if strip is not None:
            along, across = float(site.rng.uniform(6, 40)), float(site.rng.uniform(min(strip), max(strip)))
            if site.is_free(along, across, 0.9):
                facing = float(site.rng.uniform(0, 2 * np.pi))
                site.add("bicycle", vehicles.bicycle(site.rng).shapes, along, across, facing=facing, object_class="bicycle")
