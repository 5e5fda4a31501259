"""How far boxes overlap. Boxes are edges: left, top, right, bottom."""

from __future__ import annotations

import numpy as np

__all__ = ["areas", "intersections", "overlaps"]

Array = np.ndarray


def areas(boxes: Array) -> Array:
    """(N,) of (N, 4); 0 where a box has no extent."""
    return np.asarray(np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1))


def intersections(first: Array, second: Array) -> Array:
    """(N, M) areas that boxes (N, 4) and (M, 4) have in common."""
    start = np.maximum(first[:, None, :2], second[None, :, :2])
    stop = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.prod(np.clip(stop - start, 0, None), axis=2))


def overlaps(first: Array, second: Array) -> Array:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4), 0..1; 0 where neither of two has an area."""
    common = intersections(first, second)
    union = areas(first)[:, None] + areas(second)[None] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))
