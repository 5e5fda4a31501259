"""Light in a room: soft shadows of lamps, contact darkening, highlights."""

from __future__ import annotations

import numpy as np

from mtl.datasets.worlds.camera import Pose
from mtl.datasets.worlds.casting import Caster
from mtl.datasets.worlds.shading import GOLDEN_RAD, SPOTS, openness, smoothed, spots, traced_pixels
from mtl.datasets.worlds.surfaces import Surfaces

from .scene import Light, Scene

_OCCLUSION_REACH_M = np.float32(0.9)


def radiance(scene: Scene, caster: Caster, pose: Pose, seen: Surfaces, height: int, width: int) -> np.ndarray:
    """(3, N) float32 linear light leaving every surface towards the camera."""
    spot = spots(height, width)
    traced = traced_pixels(seen.patch.reshape(height, width)).ravel()
    start = seen.points_m + seen.normals * np.float32(2e-3)
    to_camera = pose.position_m[:, None] - seen.points_m
    to_camera /= np.sqrt((to_camera * to_camera).sum(0))
    free = smoothed(*openness(caster, start, seen.normals, spot, traced, _OCCLUSION_REACH_M), seen.patch, height, width)
    up = 0.5 + 0.5 * seen.normals[2]
    bounce = 0.3 + 0.7 * np.asarray(scene.shell.floor.colour, np.float32)[:, None]
    diffuse = scene.ambient * free * (up + (1 - up) * bounce)
    highlight = np.zeros_like(diffuse)
    for light in scene.lights:
        power = np.asarray(light.power, np.float32)[:, None]
        to_lamp = np.asarray(light.position_m, np.float32)[:, None] - start
        square = (to_lamp * to_lamp).sum(0)
        to_lamp /= np.sqrt(square)
        facing = np.maximum((seen.normals * to_lamp).sum(0), 0) / (1 + np.float32(0.18) * square)
        visible = smoothed(*_visible(caster, light, start, spot, traced & (facing > 0.004)), seen.patch, height, width)
        diffuse += facing * visible * power
        highlight += _mirrored(seen, to_lamp, to_camera) * visible * power
    return seen.albedo * (diffuse + seen.glow) + highlight


def _visible(
    caster: Caster, light: Light, start: np.ndarray, spot: np.ndarray, traced: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether traced points see their spot of a lamp, 0 or 1, and which points were traced: both (N,) float32."""
    active = np.flatnonzero(traced)
    targets = (np.asarray(light.position_m, np.float32) + _sphere_points() * np.float32(light.radius_m)).T
    aim = targets[:, spot[active]] - start[:, active]
    reach = np.sqrt((aim * aim).sum(0))
    aim /= reach
    visible = np.zeros(len(traced), np.float32)
    visible[active] = ~caster.occluded(start[:, active], aim, reach - np.float32(0.03))
    return visible, traced.astype(np.float32)


def _mirrored(seen: Surfaces, to_lamp: np.ndarray, to_camera: np.ndarray) -> np.ndarray:
    """Share (N,) of a lamp's power that glossy surfaces throw to the camera."""
    half = to_lamp + to_camera
    half /= np.maximum(np.sqrt((half * half).sum(0)), np.float32(1e-6))
    aligned = np.maximum((seen.normals * half).sum(0), 0)
    for _ in range(5):
        aligned = aligned * aligned
    return aligned * seen.gloss * np.float32(0.5)


def _sphere_points() -> np.ndarray:
    """(8, 3) float32 points spread over the unit sphere."""
    index = np.arange(SPOTS)
    z = 1 - (2 * index + 1) / SPOTS
    ring, angle = np.sqrt(1 - z * z), index * GOLDEN_RAD
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1).astype(np.float32)
