"""What shades any world: which pixels send rays, how free a point is, means over a face, and colour mixed along edges.

Every other pixel, as on a chessboard, sends a ray. Neighbours aim at different spots, eight to a 4x4 tile, and the mean over a
tile-sized window of the same face is smooth, without grain.
"""

from __future__ import annotations

import numpy as np

from .camera import Intrinsics, Pose
from .casting import Caster, camera_rays
from .intersect import NEAREST_M
from .shapes import rotated

SPOTS = 8
GOLDEN_RAD = np.pi * (3 - np.sqrt(5))
_ORDER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) % SPOTS  # spread in any 2x2


def spots(height: int, width: int) -> np.ndarray:
    """(H * W,) which of the `SPOTS` each pixel aims at."""
    return np.tile(_ORDER, (height // 4 + 1, width // 4 + 1))[:height, :width].ravel()


def traced_pixels(patch: np.ndarray) -> np.ndarray:
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


def openness(
    caster: Caster, start: np.ndarray, normals: np.ndarray, spot: np.ndarray, traced: np.ndarray, reach_m: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """How free traced points are towards one direction of a cosine-spread bundle, and which were traced."""
    index = np.arange(SPOTS)
    radius, angle = np.sqrt((index + 0.5) / SPOTS), index * GOLDEN_RAD
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
    distance, _ = caster.backdrop.hit(start[:, active], aim)
    reach = np.minimum(distance, reach_m)
    hidden = caster.occluded(start[:, active], aim, np.maximum(reach, NEAREST_M))
    openness = np.zeros(len(traced), np.float32)
    openness[active] = np.where(hidden, np.float32(0.1), np.float32(0.4) + np.float32(0.6) * reach / reach_m)
    return openness, traced.astype(np.float32)


def smoothed(values: np.ndarray, valid: np.ndarray, patch: np.ndarray, height: int, width: int) -> np.ndarray:
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
    depth, winner = caster.backdrop.hit(pose.position_m[:, None, None], sub)
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
