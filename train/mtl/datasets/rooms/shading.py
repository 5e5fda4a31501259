"""Light: soft shadows, contact darkening, highlights, and colour mixed along edges.

Every other pixel, as on a chessboard, sends one ray to each lamp. Neighbours aim at different spots of
it, eight to a 4x4 tile, and the mean over a tile-sized window of the same face is a smooth penumbra
without grain.
"""

from __future__ import annotations

import numpy as np

from .camera import Intrinsics, Pose
from .casting import Caster, camera_rays
from .intersect import NEAREST_M
from .scene import Light, Scene
from .shapes import rotated
from .surfaces import Surfaces

_OCCLUSION_REACH_M = np.float32(0.9)
_SPOTS = 8
_ORDER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) % _SPOTS  # spread in any 2x2
_GOLDEN_RAD = np.pi * (3 - np.sqrt(5))


def radiance(scene: Scene, caster: Caster, pose: Pose, seen: Surfaces, height: int, width: int) -> np.ndarray:
    """(3, N) float32 linear light leaving every surface towards the camera."""
    spot = np.tile(_ORDER, (height // 4 + 1, width // 4 + 1))[:height, :width].ravel()
    traced = _traced(seen.patch.reshape(height, width)).ravel()
    start = seen.points_m + seen.normals * np.float32(2e-3)
    to_camera = pose.position_m[:, None] - seen.points_m
    to_camera /= np.sqrt((to_camera * to_camera).sum(0))
    openness = _smoothed(*_openness(caster, start, seen.normals, spot, traced), seen.patch, height, width)
    up = 0.5 + 0.5 * seen.normals[2]
    bounce = 0.3 + 0.7 * np.asarray(scene.shell.floor.colour, np.float32)[:, None]
    diffuse = scene.ambient * openness * (up + (1 - up) * bounce)
    highlight = np.zeros_like(diffuse)
    for light in scene.lights:
        power = np.asarray(light.power, np.float32)[:, None]
        to_lamp = np.asarray(light.position_m, np.float32)[:, None] - start
        square = (to_lamp * to_lamp).sum(0)
        to_lamp /= np.sqrt(square)
        facing = np.maximum((seen.normals * to_lamp).sum(0), 0) / (1 + np.float32(0.18) * square)
        visible = _smoothed(*_visible(caster, light, start, spot, traced & (facing > 0.004)), seen.patch, height, width)
        diffuse += facing * visible * power
        highlight += _mirrored(seen, to_lamp, to_camera) * visible * power
    return seen.albedo * (diffuse + seen.glow) + highlight


def _traced(patch: np.ndarray) -> np.ndarray:
    """(H, W) bool: a chessboard, and the pixels without a neighbour of the same patch on it."""
    height, width = patch.shape
    alone = np.ones((height, width), bool)
    same = patch[:, 1:] == patch[:, :-1]
    alone[:, 1:] &= ~same
    alone[:, :-1] &= ~same
    same = patch[1:] == patch[:-1]
    alone[1:] &= ~same
    alone[:-1] &= ~same
    chessboard = (np.arange(height)[:, None] + np.arange(width)[None, :]) % 2 == 0
    return alone | chessboard


def _visible(
    caster: Caster, light: Light, start: np.ndarray, spot: np.ndarray, traced: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether traced points see their spot of a lamp, 0 or 1, and which points were traced: both (N,) float32."""
    active = np.flatnonzero(traced)
    spots = (np.asarray(light.position_m, np.float32) + _sphere_points() * np.float32(light.radius_m)).T
    aim = spots[:, spot[active]] - start[:, active]
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


def _openness(
    caster: Caster, start: np.ndarray, normals: np.ndarray, spot: np.ndarray, traced: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How free traced points are towards one direction of a cosine-spread bundle, and which were traced."""
    index = np.arange(_SPOTS)
    radius, angle = np.sqrt((index + 0.5) / _SPOTS), index * _GOLDEN_RAD
    disc = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)]).astype(np.float32)
    active = np.flatnonzero(traced)
    x, y, z = normals[:, active]
    sign = np.where(z >= 0, np.float32(1), np.float32(-1))  # an orthonormal frame without branches (Duff et al. 2017)
    a = -1 / (sign + z)
    b = x * y * a
    first = np.stack([1 + sign * x * x * a, sign * b, -sign * x])
    second = np.stack([b, sign + y * y * a, -y])
    across, along, out = disc[:, spot[active]]
    aim = first * across + second * along + normals[:, active] * out
    distance, _ = caster.shell_hit(start[:, active], aim)
    reach = np.minimum(distance, _OCCLUSION_REACH_M)
    hidden = caster.occluded(start[:, active], aim, np.maximum(reach, NEAREST_M))
    openness = np.zeros(len(traced), np.float32)
    openness[active] = np.where(hidden, np.float32(0.1), np.float32(0.4) + np.float32(0.6) * reach / _OCCLUSION_REACH_M)
    return openness, traced.astype(np.float32)


def _sphere_points() -> np.ndarray:
    """(8, 3) float32 points spread over the unit sphere."""
    index = np.arange(_SPOTS)
    z = 1 - (2 * index + 1) / _SPOTS
    ring, angle = np.sqrt(1 - z * z), index * _GOLDEN_RAD
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1).astype(np.float32)


def _smoothed(values: np.ndarray, valid: np.ndarray, patch: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mean over a 4x4 window, counting only valid pixels of the same patch; all arrays flat (N,)."""
    total = values.reshape(height, width)
    count = valid.reshape(height, width)
    patches = patch.reshape(height, width)
    for axis in (1, 0):
        sums, counts = total.copy(), count.copy()
        for shift in (-1, 1, 2):
            here, there = _overlap(patches.shape, axis, shift)
            same = patches[here] == patches[there]
            sums[here] += total[there] * same
            counts[here] += count[there] * same
        total, count = sums, counts
    return (total / np.maximum(count, 1)).ravel()


def _overlap(shape: tuple[int, int], axis: int, shift: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of pixels that have a neighbour `shift` away along an axis, and of those neighbours."""
    size = shape[axis]
    here = slice(max(0, -shift), size - max(0, shift))
    there = slice(max(0, shift), size - max(0, -shift))
    full = slice(None)
    return ((here, full), (there, full)) if axis == 0 else ((full, here), (full, there))


def antialiased(caster: Caster, pose: Pose, intrinsics: Intrinsics, number: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Mix colours where primitives meet, by four sub-rays a pixel.

    A sub-ray is tried only against primitives seen in the 3x3 neighbourhood, and takes the colour
    that the nearest neighbour on that primitive already has.

    Args:
        number: (H, W) surface numbers; colour: (3, H * W) radiance.
    """
    height, width = number.shape
    edge = np.zeros((height, width), bool)
    across, down = number[:, 1:] != number[:, :-1], number[1:] != number[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    row, column = np.nonzero(edge)
    if not len(row):
        return colour
    shifts = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)]
    sources = np.stack([(row + dy).clip(0, height - 1) * width + (column + dx).clip(0, width - 1) for dy, dx in shifts])
    near = number.ravel()[sources]
    direction = camera_rays(intrinsics, height, width)[:, row, column]
    mixed = np.zeros((3, len(row)), np.float32)
    rays = []
    for dy, dx in ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)):
        moved = direction.copy()
        moved[0] += np.float32(dx / intrinsics.fx)
        moved[1] += np.float32(dy / intrinsics.fy)
        rays.append(rotated(pose.axes, moved))
    sub = np.stack(rays, 2)  # (3, E, 4)
    depth, winner = caster.shell_hit(pose.position_m[:, None, None], sub)
    for which in np.unique(near[near >= 0]).tolist():
        at = np.flatnonzero((near == which).any(0))
        distance = caster.hit(which, pose.position_m, sub[:, at].reshape(3, -1)).reshape(-1, 4)
        closer = distance < depth[at]
        depth[at] = np.where(closer, distance, depth[at])
        winner[at] = np.where(closer, which, winner[at])
    for index in range(4):
        found = near == winner[:, index]
        source = np.take_along_axis(sources, found.argmax(0)[None], 0)[0]
        mixed += colour[:, source]
    result = colour.copy()
    result[:, row * width + column] = mixed / 4
    return result
