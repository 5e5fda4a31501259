"""Light in a street: sun and sky, lamps and head lights, wet ground, fog, rain."""

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np

from mtl.datasets.worlds.camera import Pose
from mtl.datasets.worlds.casting import Caster
from mtl.datasets.worlds.materials import Rng
from mtl.datasets.worlds.shading import SPOTS, openness, smoothed, spots, traced_pixels
from mtl.datasets.worlds.surfaces import Surfaces

from .classes import Label
from .conditions import Conditions
from .scene import Surroundings

__all__ = ["fogged", "radiance", "rained"]

Array = np.ndarray

_OPEN_REACH_M = np.float32(1.6)
_SHADOW_REACH_M = np.float32(90.0)
_SUN_SPREAD = 0.012
_HEAD_LIGHTS = (26.0, 24.0, 20.0)
"""Irradiance of one's own head lights a metre in front of them."""


def radiance(caster: Caster, around: Surroundings, pose: Pose, seen: Surfaces, height: int, width: int) -> Array:
    """(3, N) float32 linear light leaving every surface towards the camera, before air and rain."""
    conditions = around.conditions
    solid = seen.label != Label.SKY
    spot = spots(height, width)
    traced = traced_pixels(seen.patch.reshape(height, width)).ravel() & solid
    start = seen.points_m + seen.normals * np.float32(4e-3)
    to_camera = pose.position_m[:, None] - seen.points_m
    away = np.sqrt((to_camera * to_camera).sum(0))
    to_camera /= np.maximum(away, np.float32(1e-6))
    free = smoothed(*openness(caster, start, seen.normals, spot, traced, _OPEN_REACH_M), seen.patch, height, width)
    up = 0.5 + 0.5 * seen.normals[2]
    sky = np.asarray([0.6 * a + 0.4 * b for a, b in zip(conditions.zenith, conditions.horizon, strict=True)], np.float32)[
        :, None
    ]
    ground = np.asarray(around.street.ground.asphalt.colour, np.float32)[:, None]
    level = np.asarray(conditions.sun_power, np.float32)[:, None] * np.float32(max(conditions.sun[2], 0.0))
    diffuse = free * (up * sky + (1 - up) * ground * (sky + level))
    highlight = np.zeros_like(diffuse)
    if max(conditions.sun_power) > 0:
        sun = np.asarray(conditions.sun, np.float32)
        power = np.asarray(conditions.sun_power, np.float32)[:, None]
        facing = np.maximum((seen.normals * sun[:, None]).sum(0), 0)
        lit = smoothed(*_sunlit(caster, sun, start, spot, traced & (facing > 0.004)), seen.patch, height, width)
        diffuse += facing * lit * power
        highlight += _mirrored(seen, sun[:, None], to_camera) * lit * power
    if conditions.dark:
        diffuse_more, highlight_more = _lamps(around, pose, seen, to_camera, away)
        diffuse += diffuse_more
        highlight += highlight_more
    highlight += _reflected_sky(around, seen, to_camera) * free
    light = seen.albedo * np.where(solid, diffuse, np.float32(0)) + seen.albedo * seen.glow
    return light + np.where(solid, highlight, np.float32(0))


def _sunlit(caster: Caster, sun: Array, start: Array, spot: Array, traced: Array) -> tuple[Array, Array]:
    """Whether traced points see the sun, 0 or 1, and which were traced: both (N,) float32."""
    active = np.flatnonzero(traced)
    index = np.arange(SPOTS)
    ring = (
        np.stack([np.cos(index * 2.4), np.sin(index * 2.4), np.sin(index * 1.7)]) * _SUN_SPREAD * np.sqrt((index + 0.5) / SPOTS)
    )
    aims = (sun[:, None] + ring).astype(np.float32)
    aims /= np.sqrt((aims * aims).sum(0))
    visible = np.zeros(len(traced), np.float32)
    reach = np.full(len(active), _SHADOW_REACH_M, np.float32)
    visible[active] = ~caster.occluded(start[:, active], aims[:, spot[active]], reach)
    return visible, traced.astype(np.float32)


def _mirrored(seen: Surfaces, to_light: Array, to_camera: Array) -> Array:
    """Share (N,) of a light's power that glossy surfaces throw to the camera."""
    half = to_light + to_camera
    half = half / np.maximum(np.sqrt((half * half).sum(0)), np.float32(1e-6))
    aligned = np.maximum((seen.normals * half).sum(0), 0)
    for _ in range(5):
        aligned = aligned * aligned
    return aligned * seen.gloss * np.float32(0.6)


def _lamps(around: Surroundings, pose: Pose, seen: Surfaces, to_camera: Array, away: Array) -> tuple[Array, Array]:
    """Diffuse light and highlights of the car's head lights and of street lamps; none of them casts shadows.

    The shadows of one's own head lights lie behind what casts them, where the camera does not see them.
    """
    forward = pose.axes[:, 2].copy()
    forward[2] = -0.03
    forward /= np.sqrt((forward * forward).sum())
    along = np.maximum(-(to_camera * forward[:, None]).sum(0), 0)
    beam = along**14 * np.where(seen.points_m[2] > 1.1 + 0.02 * away, np.float32(0.25), np.float32(1))
    facing = np.maximum((seen.normals * to_camera).sum(0), 0.12)
    power = np.asarray(_HEAD_LIGHTS, np.float32)[:, None]
    fall = beam / (4 + np.float32(0.12) * away * away)
    diffuse = power * (0.25 * facing * fall)
    highlight = _mirrored(seen, to_camera, to_camera) * fall * power * 0.1
    for lamp in around.street.lamps:
        to_lamp = np.asarray(lamp.position_m, np.float32)[:, None] - seen.points_m
        square = (to_lamp * to_lamp).sum(0)
        near = square < 40.0**2
        if not near.any():
            continue
        to_lamp = to_lamp[:, near] / np.sqrt(square[near])
        part = Surfaces(*(getattr(seen, one.name)[..., near] for one in fields(Surfaces)))
        fading = np.maximum(to_lamp[2], 0) / (1 + np.float32(0.05) * square[near])
        own = np.asarray(lamp.power, np.float32)[:, None]
        diffuse[:, near] += np.maximum((part.normals * to_lamp).sum(0), 0) * fading * own
        highlight[:, near] += _mirrored(part, to_lamp, to_camera[:, near]) * fading * own
    return diffuse, highlight


def _reflected_sky(around: Surroundings, seen: Surfaces, to_camera: Array) -> Array:
    """(3, N) light of the sky that glossy surfaces mirror, by Schlick's approximation (1994) of Fresnel's equations."""
    glossy = seen.gloss > 0.05
    result = np.zeros((3, len(glossy)), np.float32)
    if not glossy.any():
        return result
    normals, view = seen.normals[:, glossy], to_camera[:, glossy]
    cosine = np.clip((normals * view).sum(0), 0, 1)
    bounced = 2 * cosine * normals - view
    share = seen.gloss[glossy] * (0.05 + 0.95 * (1 - cosine) ** 5)
    sky = around.sky_radiance(np.stack([bounced[0], bounced[1], np.abs(bounced[2]) + np.float32(1e-3)]))
    result[:, glossy] = sky * share * np.where(bounced[2] > 0, np.float32(1), np.float32(0.2))
    return result


def fogged(light: Array, depth_m: Array, directions: Array, conditions: Conditions) -> Array:
    """(3, N) light behind air: J e^(-beta d) + A (1 - e^(-beta d)) (Koschmieder 1924); the sky is in front of none of it.

    Args:
        depth_m: (N,) along z, and directions (3, N): a ray is longer than its depth.
    """
    length = np.sqrt((directions * directions).sum(0))
    through = np.exp(-np.float32(conditions.extinction) * np.minimum(depth_m * length, np.float32(600.0)))
    haze = np.asarray(conditions.haze, np.float32)[:, None]
    return light * through + haze * (1 - through)


def rained(light: Array, rng: Rng, conditions: Conditions) -> Array:
    """(H, W, 3) light with streaks of rain, and the glow around bright lamps that drops on a windscreen make."""
    if conditions.dark:
        bright = np.maximum(light - np.float32(0.6), 0)
        sigma = light.shape[1] / 160
        light = light + np.float32(0.35) * cv2.GaussianBlur(bright, (0, 0), sigma)
    if not conditions.rain:
        return light
    height, width = light.shape[:2]
    drops = rng.random((height, width), np.float32) > np.float32(1 - 0.006 * conditions.rain)
    length = max(3, round(height / 24)) | 1
    kernel = np.zeros((length, length), np.float32)
    slant = int(rng.integers(-length // 4, length // 4 + 1))
    cv2.line(kernel, (length // 2 - slant // 2, 0), (length // 2 + slant // 2, length - 1), 1.0)
    streaks = cv2.filter2D(drops.astype(np.float32), -1, kernel / kernel.sum() * np.float32(2.2))
    veil = np.asarray(conditions.horizon, np.float32) * np.float32(0.9)
    return light + (veil - light) * np.minimum(streaks, 0.55)[..., None]
