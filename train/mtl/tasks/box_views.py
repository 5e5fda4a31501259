"""What becomes of boxes where a frame is cut, resized, mirrored, or covered in part by another one. Knows no networks.

A box is cut to what is seen of it. Where less than a quarter of it is seen, or a side is shorter than 4 pixels of the network's
input then, what is left need not be found and is not wrong to find: a crowd region. A whole one stays as it is, however
small: measures count it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_mtl.tasks import BoxTruth
from mtl.tasks.box_targets import SeenBoxes

if TYPE_CHECKING:
    from mtl.datasets.augment import Sampling

__all__ = ["pasted_boxes", "seen_boxes"]

Array = np.ndarray

_LEAST_SEEN = 0.25
_LEAST_SIDE_PX = 4.0
_LEAST_UNCOVERED = 0.5


def seen_boxes(truth: BoxTruth, sampling: Sampling) -> SeenBoxes:
    """The boxes of a view of the frame."""
    top, left, high, wide = sampling.view.window
    height, width = sampling.size
    corners = truth.xyxy.reshape(-1, 2, 2).astype(np.float64) - (left, top)
    if sampling.view.libmtl_zoom:  # with aligned corners
        corners = corners * ((width - 1) / max(1, wide - 1), (height - 1) / max(1, high - 1))
    else:
        corners = (corners + 0.5) * (width / wide, height / high) - 0.5
    if sampling.view.mirrored:
        corners[..., 0] = width - 1 - corners[:, ::-1, 0]
    cut = corners.clip(-0.5, (width - 0.5, height - 0.5))
    before, after = (np.diff(ends, axis=1)[:, 0] for ends in (corners, cut))
    whole = (corners == cut).all(axis=(1, 2))
    shown = whole | ((after.prod(axis=1) >= _LEAST_SEEN * before.prod(axis=1)) & (after.min(axis=1) >= _LEAST_SIDE_PX))
    seen = SeenBoxes(cut.reshape(-1, 4).astype(np.float32), truth.classes, truth.crowd | ~shown, sampling.size)
    return _chosen(seen, after.min(axis=1) > 0)


def pasted_boxes(one: SeenBoxes | None, other: SeenBoxes | None, mask: Array) -> SeenBoxes:
    """The boxes of `one` with the pixels of `other` where the mask (h, w) is true; None for a frame whose boxes are unknown.

    A box of either frame stays as it is where at least half of its pixels are still seen; where fewer are, it is a crowd region
    from then on. The pixels of a frame whose boxes are unknown are one, too: the rectangle around them.
    """
    known = one if one is not None else other
    assert known is not None
    parts = []
    for truth, seen in ((one, ~mask), (other, mask)):
        if truth is None:
            parts.append(_unknown(seen, known.size))
        else:
            shares = np.array([_share(box, seen, truth.size) for box in truth.xyxy], np.float64)
            parts.append(_chosen(replace(truth, crowd=truth.crowd | (shares < _LEAST_UNCOVERED)), shares > 0))
    return SeenBoxes(
        np.concatenate([part.xyxy for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.crowd for part in parts]),
        known.size,
    )


def _chosen(truth: SeenBoxes, kept: Array) -> SeenBoxes:
    kept = np.asarray(kept, bool)
    return replace(truth, xyxy=truth.xyxy[kept], classes=truth.classes[kept], crowd=truth.crowd[kept])


def _share(box: Array, seen: Array, size: tuple[int, int]) -> float:
    """Share of a box of an image of `size` (H, W) that the mask (h, w) shows."""
    steps = np.array([size[1] / seen.shape[1], size[0] / seen.shape[0]] * 2)
    left, top, right, bottom = np.round((box + 0.5) / steps).astype(int)
    inside = seen[top : max(bottom, top + 1), left : max(right, left + 1)]
    return float(inside.mean()) if inside.size else 0.0


def _unknown(seen: Array, size: tuple[int, int]) -> SeenBoxes:
    """One crowd region around the pixels of the mask (h, w), in pixels of an image of `size` (H, W)."""
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    count = min(1, len(rows))
    box = np.zeros((count, 4), np.float32)
    if count:
        steps = np.array([size[1] / seen.shape[1], size[0] / seen.shape[0]] * 2)
        box[0] = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * steps - 0.5
    return SeenBoxes(box, np.zeros(count, np.int64), np.ones(count, bool), size)
