"""A street as plain values: what the layout writes and the renderer reads; the ground and the sky around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtl.datasets.worlds.materials import Colour, Material
from mtl.datasets.worlds.shapes import Piece, Vector
from mtl.datasets.worlds.surfaces import Part
from mtl.datasets.worlds.textures import reflectance

from . import street_materials as mat
from .classes import Label, Scene
from .conditions import Conditions
from .road import ZONE_LABELS, Road, Zone

__all__ = ["GROUND", "SKY", "SKY_M", "Lamp", "Street", "Surroundings"]

Array = np.ndarray

SKY, GROUND = -1, -2
SKY_M = np.float32(1e5)
"""The distance that the sky is given: nothing else is as far."""
_FAR_GROUND_M = np.float32(2e4)
_UP = np.array([[0.0], [0.0], [1.0]], np.float32)


@dataclass(frozen=True, slots=True)
class Lamp:
    """A lit street lamp; `power` is its irradiance a metre away."""

    position_m: Vector
    power: Colour


@dataclass(frozen=True, slots=True)
class Ground:
    """What the strips of the ground are made of."""

    asphalt: Material
    parking: Material
    curb: Material
    sidewalk: Material
    grass: Material

    def of(self, zone: Zone) -> Material:
        return (self.asphalt, self.parking, self.curb, self.sidewalk, self.grass)[zone]


@dataclass(frozen=True, slots=True)
class Street:
    """Everything there is to see.

    Attributes:
        classes: for each piece, the index into `OBJECT_CLASSES` of the object that it is, or None.
    """

    scene: Scene
    road: Road
    ground: Ground
    pieces: tuple[Piece, ...]
    classes: tuple[int | None, ...]
    lamps: tuple[Lamp, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The ground, which is the plane z = 0, and the sky: the backdrop of the caster, painted for a kind of weather."""

    street: Street
    conditions: Conditions
    clouds_seed: int

    def hit(self, origin: Array, directions: Array) -> tuple[Array, Array]:
        """Distance to the ground, or `SKY_M`, and which of the two."""
        down = directions[2]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            away = np.where(down < 0, -origin[2] / np.where(down < 0, down, np.float32(-1)), SKY_M)
        sky = ~(away < _FAR_GROUND_M)
        return np.where(sky, SKY_M, away).astype(np.float32), np.where(sky, SKY, GROUND).astype(np.int32)

    def part(self, which: int, points: Array, directions: Array, pixel_m: Array) -> Part:
        """What ground or sky look like, see `surfaces_seen`."""
        return self._sky(directions) if which == SKY else self._ground(points, pixel_m)

    def _ground(self, points: Array, pixel_m: Array) -> Part:
        along, across = self.street.road.locate(points[0], points[1])
        zones = self.street.road.zones(across)
        u, v = across.astype(np.float32), along.astype(np.float32)
        albedo = np.empty((3, len(u)), np.float32)
        gloss = np.empty(len(u), np.float32)
        for zone in Zone:
            own = zones == zone
            if own.any():
                material = self.street.ground.of(zone)
                albedo[:, own] = reflectance(material, u[own], v[own], pixel_m[own])
                gloss[own] = material.gloss
        cover, colour = self.street.road.paint(along, across, pixel_m)
        worn = cover * np.float32(0.9)
        albedo += (colour * np.float32(1 - 0.3 * self.conditions.wet) - albedo) * worn
        return Part(_UP, albedo, ZONE_LABELS[zones], gloss, 0.0)

    def _sky(self, directions: Array) -> Part:
        """Radiance of the sky: it reflects nothing, and glows by itself."""
        light = self.sky_radiance(directions)
        bright = np.maximum(light.max(0), np.float32(1e-4))
        return Part(-_normalised(directions), 0.9 * light / bright, Label.SKY, 0.0, bright / np.float32(0.9))

    def sky_radiance(self, directions: Array) -> Array:
        """(3, N) float32 along rays that go up."""
        sky, unit = self.conditions, _normalised(directions)
        height = np.clip(unit[2], 0, 1)
        rise = np.sqrt(height)
        low, high = (np.asarray(one, np.float32)[:, None] for one in (sky.horizon, sky.zenith))
        light = low + (high - low) * rise
        if sky.clouds > 0:
            up = np.maximum(unit[2], np.float32(0.04))
            noise = mat.sky_noise(unit[0] / up * 1.2, unit[1] / up * 1.2, self.clouds_seed)
            cover = np.clip((noise - (0.72 - 0.42 * sky.clouds)) * 4.0, 0, 1) * np.clip(unit[2] * 8, 0, 1)
            grey = np.full((3, 1), max(0.85 * float(max(sky.horizon)), 0.006), np.float32)
            if sky.weather != "clear":
                light = light * (0.85 + 0.3 * noise)
            else:
                light = light + (grey * (0.75 + 0.5 * noise) - light) * cover
        towards = (unit * np.asarray(sky.sun, np.float32)[:, None]).sum(0)
        if max(sky.sun_power) > 0:
            power = np.asarray(sky.sun_power, np.float32)[:, None]
            light = light + power * (0.12 * np.clip(towards, 0, 1) ** 24 + 2.0 * (towards > 0.9993))
        return light.astype(np.float32)


def _normalised(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors * vectors).sum(0))
