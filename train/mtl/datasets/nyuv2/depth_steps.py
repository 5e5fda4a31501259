"""Depth of 8 bits: smoothed inside its steps, so that planes can be fitted to it. Knows no files.

Public copies as images keep 10 m in 256 steps of 39 mm. A wall is then a staircase, whose treads have all the same normal.
Each pixel may move within its own step only; it moves to the mean of its neighbours, again and again, but for neighbours
across a jump. From coarse to fine, because a wide tread is far from flat for a small neighbourhood.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["FARTHEST_M", "smoothed_depth"]

Array = np.ndarray

FARTHEST_M = 9.99547
"""Depth of the code 255: the largest of the official file."""

_LEVELS = ((4, 80), (2, 50), (1, 40))
"""Every how many pixels, and how often they move to the mean of their neighbours."""
_JUMP_STEPS, _JUMP_SHARE = 2.0, 0.02
"""Neighbours further apart than this many steps, and than this share of the code, are on different surfaces."""
_SLACK_STEPS = 0.1
_KEPT = 0.05


def smoothed_depth(codes: Array, *, farthest_m: float = FARTHEST_M) -> Array:
    """Depth of 8-bit codes.

    Args:
        codes: (H, W) uint8; a code stands for the middle of its step, 0 for unknown.
        farthest_m: what the largest code reaches.
    Returns:
        (H, W) float32 metres, within a tenth of a step of what its code says; 0 unknown.
    """
    steps, known = codes.astype(np.float32), codes > 0
    found: Array | None = None
    for every, rounds in _LEVELS:
        level = np.ascontiguousarray(steps[::every, ::every])
        start = level + 0.5 if found is None else cv2.resize(found, level.shape[::-1], interpolation=cv2.INTER_LINEAR)
        found = _spread(level, start, known[::every, ::every], rounds)
    assert found is not None
    return np.where(known, found * np.float32(farthest_m / 255.0), np.float32(0.0))


def _spread(codes: Array, depth: Array, known: Array, rounds: int) -> Array:
    """`depth`, in steps, moved to the mean of neighbours on the same surface, `rounds` times, within its step."""
    low, high = codes - np.float32(_SLACK_STEPS), codes + np.float32(1.0 + _SLACK_STEPS)
    across, down = _joined(codes, known, axis=1), _joined(codes, known, axis=0)
    weight = _sum_of_neighbours(np.ones_like(codes), across, down)
    alone = weight < 0.5
    weight[alone] = 1.0
    depth = np.clip(depth, low, high)
    for _ in range(rounds):
        mean = np.where(alone, depth, _sum_of_neighbours(depth, across, down) / weight)
        depth = np.clip(_KEPT * depth + (1.0 - _KEPT) * mean, low, high)
    return depth


def _joined(codes: Array, known: Array, *, axis: int) -> Array:
    """1 where a pixel and the next one along `axis` are on the same surface, else 0, float32."""
    here, there = (np.take(codes, np.arange(codes.shape[axis] - 1) + shift, axis) for shift in (0, 1))
    both = np.take(known, np.arange(codes.shape[axis] - 1), axis) & np.take(known, np.arange(1, codes.shape[axis]), axis)
    same: Array = both & (np.abs(there - here) <= np.maximum(_JUMP_STEPS, _JUMP_SHARE * there))
    return same.astype(np.float32)


def _sum_of_neighbours(values: Array, across: Array, down: Array) -> Array:
    """The four neighbours of every pixel, weighed by whether they are joined to it."""
    total = np.zeros_like(values)
    total[:, 1:] += across * values[:, :-1]
    total[:, :-1] += across * values[:, 1:]
    total[1:] += down * values[:-1]
    total[:-1] += down * values[1:]
    return total
