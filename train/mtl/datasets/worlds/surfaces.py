"""What lies behind every pixel: class, normal, reflectance, gloss and glow of the surfaces seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .camera import Pose
from .casting import Caster
from .intersect import surface_at
from .textures import reflectance

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """One entry per pixel; vectors are (3, N) float32 in the world."""

    points_m: Array
    normals: Array  # unit, towards the camera
    albedo: Array
    label: Array  # (N,) uint8
    gloss: Array  # (N,) float32
    glow: Array  # (N,) float32
    patch: Array  # (N,) int32, equal for pixels on the same face of the same primitive


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What some pixels show of the backdrop: one value for all, or one for each.

    Attributes:
        normal: (3, 1) or (3, n); albedo: (3, n); label, gloss, glow: one or (n,).
    """

    normal: Array
    albedo: Array
    label: Array | int
    gloss: Array | float
    glow: Array | float


class PaintedBackdrop(Protocol):
    """A backdrop that knows what its surfaces look like."""

    def part(self, which: int, points: Array, directions: Array, pixel_m: Array) -> Part:
        """What is seen at points (3, n) on one of its surfaces, along directions (3, n), by pixels (n,) metres wide there."""


def surfaces_seen(
    caster: Caster, around: PaintedBackdrop, pose: Pose, depth_m: Array, number: Array, directions: Array, focal_px: float
) -> Surfaces:
    """Evaluate materials for the result of `Caster.view`, given flat: (N,), (N,), (3, N)."""
    count = len(depth_m)
    points = pose.position_m[:, None] + directions * depth_m
    normals, albedo = np.empty((3, count), np.float32), np.empty((3, count), np.float32)
    label, patch = np.empty(count, np.uint8), np.empty(count, np.int32)
    gloss, glow = np.empty(count, np.float32), np.empty(count, np.float32)
    pixel_m = np.maximum(depth_m / np.float32(focal_px), np.float32(1e-4))
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=number[order[0]] - 1))
    for where in np.split(order, starts[1:]):
        which, at, step = int(number[where[0]]), points[:, where], pixel_m[where]
        if which < 0:
            seen = around.part(which, at, directions[:, where], step)
            normals[:, where], albedo[:, where], label[where] = seen.normal, seen.albedo, seen.label
            gloss[where], glow[where] = seen.gloss, seen.glow
            patch[where] = which * 8
            continue
        piece, shape = caster.owner[which]
        material = shape.material
        normal, u, v, face = surface_at(shape, piece.local_point(at))
        normals[:, where] = piece.room_direction(normal)
        if material.texture == "grain" and shape.half_m[2] < max(shape.half_m[:2]):
            wide = shape.half_m[0] >= shape.half_m[1]
            u, v = np.where(face >= 4, v if wide else u, v), np.where(face >= 4, u if wide else v, u)
        albedo[:, where] = reflectance(material, u, v, step)
        label[where], patch[where] = int(shape.label), which * 8 + face
        gloss[where], glow[where] = material.gloss, material.glow
    backwards = (normals * directions).sum(0) > 0
    normals[:, backwards] *= -1
    return Surfaces(points, normals, albedo.clip(0.003, 0.97), label, gloss, glow, patch)


def camera_normals(pose: Pose, normals: Array) -> Array:
    """(3, N) unit normals in the world as (N, 3) in the camera frame."""
    x, y, z = normals
    turned = np.stack([pose.axes[0, i] * x + pose.axes[1, i] * y + pose.axes[2, i] * z for i in range(3)], 1)
    return np.ascontiguousarray(turned / np.sqrt((turned * turned).sum(1, keepdims=True)))
