"""Lamps, signs and bollards between road and houses."""

from __future__ import annotations

import numpy as np

from mtl.datasets.worlds.materials import Colour

from . import roadside
from .road import Zone
from .scene import Lamp
from .site import Site

__all__ = ["furniture"]


def furniture(site: Site) -> None:
    """Lamps, signs and bollards between road and houses."""
    spacing = float(site.rng.uniform(18, 35))
    lit = site.scene != "highway" or site.rng.random() < 0.5
    both = bool(site.rng.random() < 0.5)
    for oncoming in (False, True):
        out = 1.0 if oncoming else -1.0
        at = site.road.edges[oncoming]
        curb = site.road.strip(oncoming, Zone.CURB)
        beside = (curb[1] if curb is not None else site.road.outer_edge(oncoming)) + out * 0.5
        if site.scene == "highway":
            beside = at + out * (site.road.strips[oncoming][0][1] + 0.8)
        if lit and (both or not oncoming):
            for along in np.arange(float(site.rng.uniform(2, spacing)), 90, spacing).tolist():
                _lamp(site, along, beside, oncoming)
        for along in site.rng.uniform(8, 70, int(site.rng.poisson(1.6 if not oncoming else 0.8))).tolist():
            _sign(site, float(along), beside + out * float(site.rng.uniform(0, 0.5)), oncoming)
        if site.scene == "city street":
            for along in site.rng.uniform(5, 60, int(site.rng.poisson(1.0))).tolist():
                site.add("pole", roadside.pole(site.rng, float(site.rng.uniform(0.8, 9.0)), 0.08), float(along), beside)
    if site.scene == "highway" and site.rng.random() < 0.45:
        _gantry(site, float(site.rng.uniform(25, 75)))


def _lamp(site: Site, along: float, across: float, oncoming: bool) -> None:
    facing = -np.pi / 2 if oncoming else np.pi / 2
    site.add("lamp", roadside.lamp_post(site.rng, dark=site.dark), along, across, facing=facing)
    strength = float(site.rng.uniform(1.5, 3.5))
    if site.dark:
        x, y, _ = site.road.place(along, across + (-1.4 if oncoming else 1.4))
        warm: Colour = (strength, 0.8 * strength, 0.52 * strength)
        site.lamps.append(Lamp((x, y, roadside.LAMP_HEIGHT_M - 0.3), warm))


def _sign(site: Site, along: float, across: float, oncoming: bool) -> None:
    kinds: tuple[roadside.Sign, ...] = ("stop", "limit", "ring", "warning", "parking", "guide")
    kind = kinds[int(site.rng.choice(6, p=[0.1, 0.28, 0.17, 0.15, 0.15, 0.15]))]
    height = float(site.rng.uniform(1.9, 2.8))
    facing = 0.0 if oncoming else np.pi
    facing += float(site.rng.normal(0, 0.12))
    site.add("sign", roadside.sign(site.rng, kind, height, dark=site.dark), along, across, facing=facing,
             object_class="traffic sign")  # fmt: skip
    site.add("pole", roadside.pole(site.rng, height + 0.3, 0.035), along + (0.06 if not oncoming else -0.06), across)


def _gantry(site: Site, along: float) -> None:
    low = site.road.edges[0] - site.road.strips[0][0][1] - 1.0
    high = site.road.median_m / 2
    poles, signs = roadside.gantry(site.rng, high - low, dark=site.dark)
    middle = (low + high) / 2
    site.add("gantry", poles, along, middle, facing=np.pi)
    for one in signs:
        site.add("sign", one, along, middle, facing=np.pi, object_class="traffic sign")
