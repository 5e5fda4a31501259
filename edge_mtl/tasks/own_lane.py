"""The own lane in the image: from which to which column every row shows it, up to where it ends.

A relation between kinds, for cars: of the labels of the drivable area it takes what belongs to the lane straight before the
camera, and lines of lanes cut off what a label has spilt over them. Rows are followed upwards, so that a bend is followed too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["OwnLane", "own_lane"]

Array = np.ndarray

_LOWEST = 0.6
"""Where the lane begins at the highest, in heights of the image: below, a bonnet may hide it."""
_GAP = 0.02
"""Rows without the lane that are passed over, in heights of the image: a stop line, or a hole in the labels."""
_OVERLAP = 0.3
"""Of the narrower of two rows, that they share at least if they are of one lane."""
_ACROSS = 0.5
"""A line over more than this share of a row lies across the lane and does not cut it."""
_FITTED = 0.06
"""Rows that say how the edges continue beyond the end, in heights of the image."""
_NARROWED, _REFITS = 0.85, 4
"""A row that is narrower than this share of what its neighbours make of it does not show the whole lane."""
_FEWEST_ROWS = 3


@dataclass(frozen=True, slots=True, eq=False)
class OwnLane:
    """Where the lane is seen.

    Attributes:
        rows: (R,) int, from its end downwards to the row nearest to the camera; some may be missing between.
        left, right: (R,) float64, the first and the last column of each.
        whole: (R,) bool, whether a row shows it from edge to edge: where it ends aslant, the last rows do not.
    """

    rows: Array
    left: Array
    right: Array
    whole: Array

    @property
    def end(self) -> int:
        """The row in which it ends."""
        return int(self.rows[0])

    def at(self, row: float) -> tuple[float, float]:
        """From which to which column it is in a row; beyond its end as its last edges continue."""
        rows, left, right = self.rows[self.whole].astype(np.float64), self.left[self.whole], self.right[self.whole]
        if row >= rows[0]:
            return float(np.interp(row, rows, left)), float(np.interp(row, rows, right))
        count = max(_FEWEST_ROWS, int(np.searchsorted(rows, rows[0] + _FITTED * rows[-1])))
        rows = rows[:count]
        centred = rows - rows.mean()
        spread = max(float((centred * centred).sum()), 1e-9)
        found = []
        for edge in (left[:count], right[:count]):
            slope = float((centred * (edge - edge.mean())).sum()) / spread
            found.append(float(edge.mean()) + slope * (row - float(rows.mean())))
        return found[0], max(found[0], found[1])


def own_lane(drivable: Array, lines: Array | None, *, middle: float) -> OwnLane | None:
    """The lane before the camera; None where none is seen.

    Args:
        drivable: (H, W) bool, what is labelled as the own lane.
        lines: (H, W) bool, lines of lanes; None where the bundle has none.
        middle: the column in which the camera looks ahead.
    """
    height = len(drivable)
    rows: list[int] = []
    edges: list[tuple[int, int]] = []
    for row in range(height - 1, -1, -1):
        if not rows and row < _LOWEST * height:
            return None
        if rows and rows[-1] - row > max(2.0, _GAP * height):
            break
        found = _runs(_within_lines(drivable[row], None if lines is None else lines[row]))
        if not len(found):
            continue
        if not rows:
            chosen = found[int(_away(found, middle).argmin())]
        else:
            shared = _shared(found, edges[-1])
            if shared.max() < _OVERLAP:
                continue
            chosen = found[int((shared * (found[:, 1] - found[:, 0] + 1)).argmax())]
        rows.append(row)
        edges.append((int(chosen[0]), int(chosen[1])))
    if len(rows) < _FEWEST_ROWS:
        return None
    upwards = np.array(edges, np.float64)[::-1]
    return OwnLane(np.array(rows[::-1]), upwards[:, 0], upwards[:, 1], _whole(np.array(rows[::-1]), upwards, drivable.shape[1]))


def _whole(rows: Array, edges: Array, width: int) -> Array:
    """(R,) bool: the rows that are about as wide as a road in perspective is there, by those that are."""
    wide = edges[:, 1] - edges[:, 0] + 1
    kept = (edges[:, 0] > 0) & (edges[:, 1] < width - 1)
    if kept.sum() < 2 * _FEWEST_ROWS:
        kept = np.ones(len(rows), bool)
    for _ in range(_REFITS):
        slope, offset = np.polyfit(rows[kept], wide[kept], 1)
        whole: Array = wide > _NARROWED * (slope * rows + offset)
        if (kept & whole).sum() < _FEWEST_ROWS or slope <= 0:
            return np.ones(len(rows), bool)
        kept = kept & whole
    return whole if whole.sum() >= _FEWEST_ROWS else np.ones(len(rows), bool)


def _within_lines(drivable: Array, lines: Array | None) -> Array:
    """A row of the drivable area without the lines in it, unless they lie across it."""
    if lines is None:
        return drivable
    on_lines = drivable & lines
    return drivable if on_lines.sum() > _ACROSS * drivable.sum() else drivable & ~on_lines


def _runs(row: Array) -> Array:
    """(N, 2) int: the first and the last column of each run of a row."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
    return changes.reshape(-1, 2) - [0, 1]


def _away(runs: Array, column: float) -> Array:
    """(N,) how far a column is from each run, 0 within; of the runs that hold it the widest is nearest."""
    outside: Array = np.maximum(np.maximum(runs[:, 0] - column, column - runs[:, 1]), 0)
    return outside


def _shared(runs: Array, below: tuple[int, int]) -> Array:
    """(N,) what each run shares with the lane in the row below, of the narrower of both."""
    common = np.minimum(runs[:, 1], below[1]) - np.maximum(runs[:, 0], below[0]) + 1
    narrower = np.minimum(runs[:, 1] - runs[:, 0], below[1] - below[0]) + 1
    share: Array = common / narrower
    return share
