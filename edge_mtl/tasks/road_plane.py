"""The plane of the own lane by the depth of its pixels, and how far depth agrees that nothing stands on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_mtl.tasks.own_lane import OwnLane

__all__ = ["DISAGREEMENT", "RoadPlane", "find_road", "free_m"]

Array = np.ndarray

DISAGREEMENT = 0.35
"""Between a depth and that of the road, relatively; beyond it what is seen is not the road, or not on it."""
_ROAD_ERROR, _ROAD_SHARE = 0.25, 0.75
"""Depth agrees with the road where at least this share of the lane is within this relative error of one plane."""
_ROW_KNOWN, _ROW_NEARER = 0.5, 0.2
"""Of a row of the lane: how much must be where the road is, and how much may be nearer."""
_FEWEST_PIXELS = 30
_REFITS = 3


@dataclass(frozen=True, slots=True)
class RoadPlane:
    """The plane of the lane as 1 / z = x u + y v + one, of pixels (u, v)."""

    x: float
    y: float
    one: float

    def depth_m(self, column: float, row: float) -> float:
        """Where the ray through a pixel meets it; inf at the horizon and above."""
        inverse = self.x * column + self.y * row + self.one
        return 1.0 / inverse if inverse > 1e-6 else math.inf


def find_road(lane: OwnLane, free: Array, depth_m: Array) -> RoadPlane | None:
    """The plane of the lane by the depth of its pixels; None where too few of them are on one, so that neither is believed."""
    inside = np.zeros(free.shape, bool)
    for row, left, right in zip(lane.rows.tolist(), lane.left.tolist(), lane.right.tolist(), strict=True):
        inside[row, int(left) : int(right) + 1] = True
    v, u = np.nonzero(inside & free)
    if len(v) < _FEWEST_PIXELS:
        return None
    z = depth_m[v, u].astype(np.float64)
    known = np.isfinite(z) & (z > 0)
    if known.mean() < _ROAD_SHARE:
        return None
    u, v, z = u[known].astype(np.float64), v[known].astype(np.float64), z[known]
    unknowns = np.stack([u, v, np.ones(len(u))], axis=1)
    weights = z.copy()  # of relative errors: far pixels count as near ones do
    plane: Array = np.zeros(3)
    for _ in range(_REFITS):
        plane = np.linalg.lstsq(unknowns * weights[:, None], weights / z, rcond=None)[0]
        error = np.abs((unknowns @ plane) * z - 1.0)
        weights = z * np.clip(1.0 - (error / (2 * _ROAD_ERROR)) ** 2, 0.0, 1.0)
    on_road = (np.abs((unknowns @ plane) * z - 1.0) < _ROAD_ERROR).mean() * known.mean()
    if on_road < _ROAD_SHARE or plane[1] <= 0:  # a road comes nearer downwards
        return None
    return RoadPlane(*(float(value) for value in plane))


def free_m(lane: OwnLane, depth_m: Array, road: RoadPlane | None) -> float:
    """How far the lane is free, by its depth: up to the first rows that are nearer than the road; NaN where that is unknown."""
    if road is None:
        return math.nan
    end_m, disagreeing = math.nan, 0
    for row, left, right in reversed(list(zip(lane.rows.tolist(), lane.left.tolist(), lane.right.tolist(), strict=True))):
        first, last = int(left), int(right) + 1
        z, expected = depth_m[row, first:last], road.depth_m((left + right) / 2, row)
        if not math.isfinite(expected):
            break
        ratio = z[np.isfinite(z) & (z > 0)] / expected
        agrees = np.abs(ratio - 1.0) < DISAGREEMENT
        if agrees.sum() < _ROW_KNOWN * len(z) or (ratio < 1.0 - DISAGREEMENT).sum() > _ROW_NEARER * len(z):
            disagreeing += 1
            if disagreeing > 1:
                break
            continue
        disagreeing, end_m = 0, min(expected, expected * float(np.median(ratio)))
    return end_m
