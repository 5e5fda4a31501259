"""From a network's scores and distances to boxes in pixels of a map: candidates, their edges, and which of them stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edge_mtl.tasks.areas import MapArea
from edge_mtl.tasks.box_suppression import suppressed

__all__ = ["Level", "bad_values", "decoded"]

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """What a network answers on one grid.

    Attributes:
        stride: pixels of the network's input per cell.
        scores: (C, h, w) float32 logits.
        distances: (4, h, w) float32, in strides, from the cell's centre to the left, top, right and bottom edge.
    """

    stride: int
    scores: Array
    distances: Array


def bad_values(levels: Sequence[Level]) -> int:
    """How many scores and distances are not finite."""
    arrays = [array for level in levels for array in (level.scores, level.distances)]
    return sum(array.size - int(np.count_nonzero(np.isfinite(array))) for array in arrays)


def decoded(
    levels: Sequence[Level], area: MapArea, *, score: float, overlap: float, candidates: int, most: int
) -> tuple[Array, Array, Array]:
    """Boxes within the frame, highest score first.

    Scores are compared as logits, so that only those of candidates become probabilities. A cell is a candidate of every class
    that scores there. Where a candidate's own values are not finite it is left out.

    Args:
        area: where the frame lies in the network's input, and in the map that is wanted.
        score: the least, above 0 and below 1.
        overlap: of two boxes of one class that overlap by more, the one with the lower score goes.
        candidates: looked at, those with the highest scores.
        most: boxes in the end.
    Returns:
        (N, 4) float32 edges in pixels of the map, (N,) float32 scores, (N,) int64 classes.
    """
    logits, classes, cells = _candidates(levels, math.log(score / (1.0 - score)))
    if logits.size > candidates:
        chosen = np.argpartition(logits, -candidates)[-candidates:]
        chosen.sort()  # so that equal scores keep their order
        logits, classes, cells = logits[chosen], classes[chosen], cells[chosen]
    boxes = _in_map(_edges(levels, cells), area).astype(np.float32)
    usable = np.flatnonzero(np.isfinite(logits) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    order = usable[np.argsort(-logits[usable], kind="stable")]
    boxes, classes = boxes[order], classes[order]
    scores = (1.0 / (1.0 + np.exp(-logits[order].astype(np.float64)))).astype(np.float32)
    kept = suppressed(boxes, scores, classes, overlap=overlap, most=most)
    return boxes[kept], scores[kept], classes[kept]


def _candidates(levels: Sequence[Level], least: float) -> tuple[Array, Array, Array]:
    """Logits above `least`, their classes and cells; cells are counted through all levels."""
    logits, classes, cells, before = [], [], [], 0
    for level in levels:
        size = level.scores.shape[1] * level.scores.shape[2]
        flat = level.scores.reshape(-1)
        found = np.flatnonzero(flat >= least)
        of_class, cell = np.divmod(found, size)
        logits.append(flat[found])
        classes.append(of_class)
        cells.append(cell + before)
        before += size
    return np.concatenate(logits), np.concatenate(classes), np.concatenate(cells)


def _edges(levels: Sequence[Level], cells: Array) -> Array:
    """(N, 4) float64 edges in pixels of the network's input; NaN where a distance is not finite."""
    if not cells.size:
        return np.zeros((0, 4))
    centres, strides = _grid(tuple((level.stride, *level.scores.shape[1:]) for level in levels))
    distances = np.concatenate([level.distances.reshape(4, -1) for level in levels], axis=1)[:, cells].T.astype(np.float64)
    distances = np.where(np.isfinite(distances), distances, np.nan) * strides[cells, None]
    middle = centres[cells]
    return np.concatenate([middle - distances[:, :2], middle + distances[:, 2:]], axis=1)


@lru_cache(maxsize=16)
def _grid(levels: tuple[tuple[int, ...], ...]) -> tuple[Array, Array]:
    """(N, 2) float64 x and y of all cells' centres and (N,) strides; `levels` are (stride, rows, columns)."""
    centres, strides = [], []
    for stride, rows, columns in levels:
        y, x = np.mgrid[:rows, :columns]
        centres.append((np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride - 0.5)
        strides.append(np.full(rows * columns, float(stride)))
    return np.concatenate(centres), np.concatenate(strides)


def _in_map(boxes: Array, area: MapArea) -> Array:
    """Edges in the network's input -> in the map, not beyond the frame's part of it."""
    start = np.array([area.columns.start, area.rows.start])
    extent = np.array([area.columns.stop, area.rows.stop]) - start
    size = np.array(area.size[::-1])
    corner = np.zeros(2) if area.target is None else np.array([area.target[1].start, area.target[0].start])
    moved = (boxes.reshape(-1, 2, 2) + 0.5 - start) * (size / extent) + corner - 0.5
    return np.asarray(np.clip(moved, corner - 0.5, corner + size - 0.5).reshape(-1, 4))
