"""The plane that things stand on, from one prediction: floor or table pixels, their depth and their normals.

Used by free_floor.py, obstacle_distance.py and ar_placement.py; copy it, it needs only NumPy and a `Prediction`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_mtl import Prediction
from edge_mtl.image.geometry import points_of_depth

LEAST_CONFIDENCE = 0.5
LEAST_SHARE = 0.01  # of the image, or it is not a surface worth the name
UPRIGHT = np.cos(np.radians(60.0))  # how far the camera may be tilted against the surface's normal
TOLERANCE = 0.04  # of the distance: predicted depth is better nearby


@dataclass(frozen=True)
class Plane:
    """All points p (camera frame, metres) with normal . p == offset.

    Attributes:
        normal: (3,) unit, upwards out of the surface.
        pixels: (H, W) bool, where the image shows this plane.
    """

    normal: np.ndarray
    offset: float
    pixels: np.ndarray

    def height_m(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) points -> how far above the plane they are."""
        return points @ self.normal - self.offset

    def depth_m(self, rays: np.ndarray) -> np.ndarray:
        """Where rays with z = 1 (..., 3) meet the plane; inf where they never do."""
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = self.offset / (rays @ self.normal)
        return np.where(depth > 0, depth, np.inf)


def ahead_and_right(up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera looks and what is to its right: (3,) units along the plane with the normal `up`, at any pitch."""
    ahead = np.array([0.0, 0.0, 1.0]) - up[2] * up
    ahead /= np.linalg.norm(ahead)
    return ahead, np.cross(ahead, up)


def find_plane(prediction: Prediction, name: str, *, tries: int = 200, seed: int = 0) -> Plane | None:
    """The plane of class `name` ("floor", "table"), or None where none is seen clearly.

    RANSAC (Fischler & Bolles 1981) with the shortest sample there is: one pixel's point and normal are a plane already.
    """
    if prediction.segmentation is None or prediction.depth is None or prediction.normals is None:
        raise SystemExit("this example needs a bundle that predicts segmentation, depth and normals")
    mask = (prediction.segmentation == prediction.classes.index(name)) & np.isfinite(prediction.depth)
    mask &= (prediction.normals @ np.array([0.0, -1.0, 0.0])) > UPRIGHT  # a floor faces upwards, y points down
    if prediction.confidence is not None:
        mask &= prediction.confidence > LEAST_CONFIDENCE
    if mask.mean() < LEAST_SHARE:
        return None
    cloud = points_of_depth(prediction.depth, prediction.intrinsics)
    points, normals = cloud[mask].astype(np.float64), prediction.normals[mask].astype(np.float64)
    slack = TOLERANCE * np.linalg.norm(points, axis=1)

    random = np.random.default_rng(seed)
    some = random.choice(len(points), min(len(points), 2000), replace=False)  # to vote
    best, most = None, 0
    for index in random.integers(0, len(points), tries):
        near = np.abs((points[some] - points[index]) @ normals[index]) < slack[some]
        if near.sum() > most:
            best, most = index, near.sum()
    if best is None:
        return None
    near = np.abs((points - points[best]) @ normals[best]) < slack
    normal = normals[near].mean(axis=0)  # the mean of many predicted normals is better than a fit to noisy depth
    normal /= np.linalg.norm(normal)
    weights = 1.0 / slack[near] ** 2
    offset = float((weights * (points[near] @ normal)).sum() / weights.sum())

    plane = Plane(normal, offset, mask)
    on_plane = mask & (np.abs(plane.height_m(cloud)) < 2 * TOLERANCE * np.linalg.norm(cloud, axis=2))
    return Plane(normal, offset, on_plane)
