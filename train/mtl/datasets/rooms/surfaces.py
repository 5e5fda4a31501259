"""What lies behind every pixel: class, normal, reflectance, gloss and glow of the surfaces seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import Pose
from .casting import CEILING, FIRST_WALL, FLOOR, Caster
from .intersect import surface_at
from .labels import Label
from .materials import Material
from .scene import Shell
from .textures import reflectance

_SHELL_NORMALS = {-1: (0, 0, -1), -2: (0, 0, 1), -3: (-1, 0, 0), -4: (1, 0, 0), -5: (0, -1, 0), -6: (0, 1, 0)}


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """One entry per pixel; vectors are (3, N) float32 in the room."""

    points_m: np.ndarray
    normals: np.ndarray  # unit, towards the camera
    albedo: np.ndarray
    label: np.ndarray  # (N,) uint8
    gloss: np.ndarray  # (N,) float32
    glow: np.ndarray  # (N,) float32
    patch: np.ndarray  # (N,) int32, equal for pixels on the same face of the same primitive


def surfaces_seen(
    caster: Caster, shell: Shell, pose: Pose, depth_m: np.ndarray, number: np.ndarray, directions: np.ndarray, focal_px: float
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
            material, colour, label[where] = _shell_surface(shell, which, at, step)
            normals[:, where] = np.array(_SHELL_NORMALS[which], np.float32)[:, None]
            patch[where] = which * 8
        else:
            piece, shape = caster.owner[which]
            material = shape.material
            normal, u, v, face = surface_at(shape, piece.local_point(at))
            normals[:, where] = piece.room_direction(normal)
            if material.texture == "grain" and shape.half_m[2] < max(shape.half_m[:2]):
                wide = shape.half_m[0] >= shape.half_m[1]
                u, v = np.where(face >= 4, v if wide else u, v), np.where(face >= 4, u if wide else v, u)
            colour = reflectance(material, u, v, step)
            label[where], patch[where] = int(shape.label), which * 8 + face
        albedo[:, where] = colour
        gloss[where], glow[where] = material.gloss, material.glow
    backwards = (normals * directions).sum(0) > 0
    normals[:, backwards] *= -1
    return Surfaces(points, normals, albedo.clip(0.003, 0.97), label, gloss, glow, patch)


def _shell_surface(shell: Shell, which: int, points: np.ndarray, pixel_m: np.ndarray) -> tuple[Material, np.ndarray, Label]:
    """Material, colour and class of points on one side of the empty room."""
    x, y, z = points
    if which == CEILING:
        return shell.ceiling, reflectance(shell.ceiling, x, y, pixel_m), Label.CEILING
    if which == FLOOR:
        return shell.floor, reflectance(shell.floor, x, y, pixel_m), Label.FLOOR
    wall = shell.walls[FIRST_WALL - which]
    along = y if which >= FIRST_WALL - 1 else x
    colour = reflectance(wall, along, z, pixel_m)
    low = z < shell.skirting_m
    if low.any():
        colour[:, low] = reflectance(shell.skirting, z[low], along[low], pixel_m[low])
    return wall, colour, Label.WALL
