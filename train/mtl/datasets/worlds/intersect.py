"""Where rays meet one primitive, and the primitive's normal and texture coordinates there.

Arrays are (3, ...) float32 with components first; a distance counts in units of the ray's direction.
"""

from __future__ import annotations

import numpy as np

from .shapes import Kind, Shape, rotated

NEAREST_M = np.float32(1e-3)
_MISS = np.float32(np.inf)


def safe_inverse(directions: np.ndarray) -> np.ndarray:
    """1 / directions with zeros nudged, so that slab tests never see 0 * inf."""
    return 1 / np.where(np.abs(directions) < 1e-9, np.float32(1e-9), directions)


def entry_distance(shape: Shape, origin: np.ndarray, direction: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Distance at which rays enter a shape, inf where they miss it or start inside.

    Args:
        origin: (3, 1...) or like direction, in the frame of the shape's piece.
        direction, inverse: (3, ...) ray directions and `safe_inverse` of them.
    """
    centre = np.asarray(shape.centre_m, np.float32).reshape((3,) + (1,) * (origin.ndim - 1))
    offset = centre - origin
    if shape.tilt is not None:
        offset, direction = rotated(shape.tilt.T, offset), rotated(shape.tilt.T, direction)
        inverse = safe_inverse(direction) if shape.kind != Kind.ELLIPSOID else inverse
    if shape.kind == Kind.BOX:
        return _box(shape, offset, inverse)
    if shape.kind == Kind.CYLINDER:
        return _cylinder(shape, offset, direction, inverse)
    return _ellipsoid(shape, offset, direction)


def _box(shape: Shape, offset: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    near, far = _slab(shape, 0, offset, inverse)
    for axis in (1, 2):
        enter, leave = _slab(shape, axis, offset, inverse)
        np.maximum(near, enter, out=near)
        np.minimum(far, leave, out=far)
    near[(far < near) | (near < NEAREST_M)] = _MISS
    return near


def _slab(shape: Shape, axis: int, offset: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave the space between two opposite faces."""
    middle = offset[axis] * inverse[axis]
    reach = np.abs(np.float32(shape.half_m[axis]) * inverse[axis])
    return middle - reach, middle + reach


def _cylinder(shape: Shape, offset: np.ndarray, direction: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    radius, half = np.float32(shape.half_m[0]), np.float32(shape.half_m[2])
    a = np.maximum(direction[0] ** 2 + direction[1] ** 2, np.float32(1e-12))
    b = offset[0] * direction[0] + offset[1] * direction[1]
    cross = offset[0] * direction[1] - offset[1] * direction[0]
    discriminant = radius * radius * a - cross * cross
    spread = np.sqrt(np.maximum(discriminant, 0))
    middle, reach = offset[2] * inverse[2], np.abs(half * inverse[2])
    near = np.maximum((b - spread) / a, middle - reach)
    far = np.minimum((b + spread) / a, middle + reach)
    near[(discriminant <= 0) | (far < near) | (near < NEAREST_M)] = _MISS
    return near


def _ellipsoid(shape: Shape, offset: np.ndarray, direction: np.ndarray) -> np.ndarray:
    scale = [np.float32(1 / half) for half in shape.half_m]
    ox, oy, oz = (offset[axis] * scale[axis] for axis in range(3))
    dx, dy, dz = (direction[axis] * scale[axis] for axis in range(3))
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    cx, cy, cz = oy * dz - oz * dy, oz * dx - ox * dz, ox * dy - oy * dx
    discriminant = a - (cx * cx + cy * cy + cz * cz)
    near = (b - np.sqrt(np.maximum(discriminant, 0))) / a
    near[(discriminant <= 0) | (near < NEAREST_M)] = _MISS
    return near


def surface_at(shape: Shape, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Outward normals, texture coordinates in metres, and faces at points on a shape.

    Args:
        points: (3, N) in the frame of the piece.
    Returns:
        normals (3, N) in the frame of the piece, u (N,), v (N,), face (N,) int32 in 0..5.
    """
    local = points - np.asarray(shape.centre_m, np.float32)[:, None]
    if shape.tilt is not None:
        local = rotated(shape.tilt.T, local)
    half = np.asarray(shape.half_m, np.float32)
    normals = np.zeros_like(local)
    if shape.kind == Kind.BOX:
        ratio = local / half[:, None]
        axis = np.abs(ratio).argmax(0)
        column = np.arange(local.shape[1])
        sign = np.sign(ratio[axis, column])
        normals[axis, column] = sign
        face = (2 * axis + (sign > 0)).astype(np.int32)
        u = np.where(axis == 0, local[1], local[0])
        v = np.where(axis == 2, local[1], local[2])
    elif shape.kind == Kind.CYLINDER:
        radial = np.sqrt(local[0] ** 2 + local[1] ** 2)
        cap = np.abs(local[2]) * half[0] > radial * half[2]
        cap |= radial < 0.999 * half[0] - 1e-3
        round_ = np.maximum(radial, np.float32(1e-9))
        normals[0] = np.where(cap, 0, local[0] / round_)
        normals[1] = np.where(cap, 0, local[1] / round_)
        normals[2] = np.where(cap, np.sign(local[2]), 0)
        face = np.where(cap, np.where(local[2] > 0, 5, 4), 0).astype(np.int32)
        u = np.where(cap, local[0], np.arctan2(local[1], local[0]) * half[0])
        v = np.where(cap, local[1], local[2])
    else:
        normals = local / (half * half)[:, None]
        normals /= np.sqrt((normals * normals).sum(0))
        face = np.zeros(local.shape[1], np.int32)
        u, v = np.arctan2(local[1], local[0]) * half[0], local[2]
    if shape.tilt is not None:
        normals = rotated(shape.tilt, normals)
    return normals, u, v, face
