"""A rubber duck as a distance function, and how to draw it into an image by casting one ray per pixel. Only NumPy.

The scene is given by where things are (`Pose`), the drawing by colour, depth, coverage and shadow; what hides the duck is
decided by whoever asks. Sphere tracing: Hart 1996; soft shadows and smooth unions as described by Inigo Quilez.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

YELLOW, ORANGE, BLACK = (1.0, 0.78, 0.08), (1.0, 0.38, 0.05), (0.03, 0.03, 0.03)
COLOURS = np.array([YELLOW, ORANGE, BLACK])
RADIUS = 1.25  # of a ball around the unit duck, whose height is 1.5 and which stands on y = 0
HEIGHT = 1.5


@dataclass(frozen=True)
class Pose:
    """Where the duck stands: `foot` (3,) in metres, axes (3, 3) with columns right, up and forward, and its height."""

    foot: np.ndarray
    axes: np.ndarray
    height_m: float

    @property
    def scale(self) -> float:
        return self.height_m / HEIGHT

    def local(self, points: np.ndarray) -> np.ndarray:
        return (points - self.foot) @ self.axes / self.scale


def parts(p: np.ndarray) -> np.ndarray:
    """(N, 3) points of the duck's own frame -> (N, 3) distances to its yellow, orange and black parts."""
    mirrored = np.abs(p[:, 0])  # left and right are alike
    side = np.column_stack([mirrored, p[:, 1:]])
    body = ellipsoid(p, (0.0, 0.42, -0.05), (0.52, 0.42, 0.68))
    tail = ellipsoid(p, (0.0, 0.72, -0.62), (0.22, 0.16, 0.26))
    wing = ellipsoid(side, (0.48, 0.5, -0.12), (0.12, 0.22, 0.36))
    head = np.linalg.norm(p - np.array((0.0, 1.1, 0.28)), axis=1) - 0.38
    yellow = union(union(union(body, tail, 0.2), head, 0.12), wing, 0.05)
    beak = union(ellipsoid(p, (0.0, 1.06, 0.68), (0.2, 0.05, 0.2)), ellipsoid(p, (0.0, 0.99, 0.65), (0.15, 0.04, 0.15)), 0.02)
    eye = np.linalg.norm(side - np.array((0.17, 1.22, 0.58)), axis=1) - 0.07
    return np.column_stack([np.maximum(yellow, -p[:, 1]), beak, eye])


def draw(rays: np.ndarray, pose: Pose, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The duck seen along `rays` (N, 3) with z = 1 from the origin, lit from direction `light`.

    Returns:
        colour (N, 3) in 0..1, black where a ray misses, and depth along z (N,) in metres, inf where it misses.
    """
    colour, depth = np.zeros((len(rays), 3)), np.full(len(rays), np.inf)
    length = np.linalg.norm(rays, axis=1)
    hit, travelled = march(rays / length[:, None], pose)
    if not hit.any():
        return colour, depth
    towards = rays[hit] / length[hit, None]
    points = pose.local(towards * travelled[hit, None])
    facing = gradient(points)
    normals = facing @ pose.axes.T
    half = light - towards
    half /= np.linalg.norm(half, axis=1, keepdims=True)

    diffuse = np.clip(normals @ light, 0, 1) * shadow(points + 0.03 * facing, light @ pose.axes)
    sky = (0.5 + 0.5 * facing[:, 1]) * np.clip(points[:, 1] / 0.5, 0.35, 1)  # from above, less near the ground
    shine = np.clip((normals * half).sum(axis=1), 0, 1) ** 60 * diffuse
    rim = (1 - np.clip(-(normals * towards).sum(axis=1), 0, 1)) ** 4
    paint = COLOURS[parts(points).argmin(axis=1)]
    colour[hit] = np.clip(paint * (0.78 * diffuse + 0.5 * sky)[:, None] + (0.45 * shine + 0.12 * rim)[:, None], 0, 1)
    depth[hit] = travelled[hit] / length[hit]
    return colour, depth


def march(towards: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Follow unit rays from the origin: which hit the duck, and after how many metres."""
    centre, radius = pose.foot + pose.axes[:, 1] * 0.5 * pose.height_m, RADIUS * pose.scale
    middle = towards @ centre
    inside = radius**2 - (centre @ centre - middle**2)  # of the ball around the duck
    half = np.sqrt(np.maximum(inside, 0))
    travelled, hit = np.maximum(middle - half, 1e-3), np.zeros(len(towards), bool)
    (going,) = np.nonzero((inside > 0) & (middle + half > 0))
    for _ in range(60):
        distance = parts(pose.local(towards[going] * travelled[going, None])).min(axis=1) * pose.scale
        hit[going] = distance < 0.003 * pose.scale
        going = going[~hit[going]]
        travelled[going] += 0.9 * distance[distance >= 0.003 * pose.scale]
        going = going[travelled[going] < (middle + half)[going]]
    return hit, travelled


def ground_shadow(points: np.ndarray, pose: Pose, light: np.ndarray) -> np.ndarray:
    """(N, 3) points of the ground -> how much of the light reaches them, 0..1: cast shadow and the dark line of contact."""
    local = pose.local(points)
    cast = shadow(local + np.array((0.0, 0.02, 0.0)), light @ pose.axes)
    near = np.linalg.norm(local, axis=1) < RADIUS
    contact = np.ones(len(points))
    contact[near] = np.clip(parts(local[near]).min(axis=1) / 0.35, 0, 1)
    return (0.45 + 0.55 * cast) * (0.6 + 0.4 * np.sqrt(contact))


def shadow(points: np.ndarray, towards: np.ndarray, *, softness: float = 6.0) -> np.ndarray:
    """How much light from direction `towards` reaches points of the duck's frame: narrow misses darken too."""
    centre = np.array((0.0, 0.5 * HEIGHT, 0.0))
    ahead = (centre - points) @ towards
    aside = np.linalg.norm(centre - points - ahead[:, None] * towards, axis=1)
    (going,) = np.nonzero((ahead > -RADIUS) & (aside < 1.3 * RADIUS))
    seen = np.ones(len(points))
    travelled = np.maximum(ahead[going] - 1.5 * RADIUS, 0.06)
    for _ in range(24):
        distance = parts(points[going] + travelled[:, None] * towards).min(axis=1)
        seen[going] = np.minimum(seen[going], softness * distance / travelled)
        travelled += np.clip(distance, 0.03, 0.3)
    return np.clip(seen, 0, 1)


def ellipsoid(p: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Nearly the distance to an ellipsoid: its implicit function over the length of its gradient."""
    q = (p - np.array(centre)) / np.array(radii)
    k = np.linalg.norm(q, axis=1)
    return k * (k - 1.0) / np.maximum(np.linalg.norm(q / np.array(radii), axis=1), 1e-9)


def union(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """The nearer of two distances, with a round seam `blend` wide."""
    h = np.clip(0.5 + 0.5 * (b - a) / blend, 0, 1)
    return b + (a - b) * h - blend * h * (1 - h)


def gradient(p: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """(N, 3) unit normals of the duck's surface in its own frame."""
    g = np.column_stack([parts(p + e).min(axis=1) - parts(p - e).min(axis=1) for e in step * np.eye(3)])
    return g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12)
