"""Which cell of a network's levels answers for which box, and what it should say.

A cell answers for a box where its centre is inside, within 1.5 strides of the box's centre along both axes, and where the side
farthest from it is as far as the level is for; of several boxes it takes the smallest. Levels of the strides 8, 16 and 32 are
for sides up to 48, 112 and any number of pixels of an image of 288x384, and scaled with the size of other images.
After FCOS (Tian et al. 2019, arXiv:1904.01355) with its later centre sampling.

A box without such a cell, because it is small or thin, has one all the same, as in RTMDet (Lyu et al. 2022, arXiv:2212.07784):
that nearest to its centre among those inside, on the coarsest level of its size or finer that has one; else the nearest of
the finest level, which answers as if its centre were inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edge_mtl.tasks import BoxTruth

__all__ = ["BACKGROUND", "IGNORED", "SeenBoxes", "assigned", "centres", "farthest"]

Array = np.ndarray

BACKGROUND, IGNORED = -1, -2
"""In place of a class: a cell that answers for no box, and one about which nothing is known."""

_CENTRE = 1.5
_PER_STRIDE = {8: 6.0, 16: 7.0}
_OTHERS = 7.0
_AREA = 288 * 384


@dataclass(frozen=True, slots=True, eq=False)
class SeenBoxes(BoxTruth):
    """The boxes of a view, and the size (H, W) of its image."""

    size: tuple[int, int]


def farthest(levels: Sequence[int], size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """By level, least and largest distance of the farthest side in pixels of an image of `size` (H, W)."""
    scale = float(np.sqrt(size[0] * size[1] / _AREA))
    ends = [level * _PER_STRIDE.get(level, _OTHERS) * scale for level in levels[:-1]]
    return tuple(zip((0.0, *ends), (*ends, float("inf")), strict=True))


@lru_cache(maxsize=32)
def centres(stride: int, size: tuple[int, int]) -> Array:
    """(cells, 2) float32 x and y of a level's cells, row by row, in pixels of an image of `size` (H, W). Read-only."""
    y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
    found = ((np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride - 0.5).astype(np.float32)
    found.flags.writeable = False
    return found


def assigned(truth: SeenBoxes | None, levels: Sequence[int], size: tuple[int, int]) -> Array:
    """(cells of all levels, 5) float32: class, `BACKGROUND` or `IGNORED`, then distances to the four sides in strides.

    Args:
        truth: None where nothing is known: all cells are ignored. Cells in a crowd region are, unless they answer for a box.
        size: (H, W) of the image.
    """
    targets = [np.zeros((len(centres(stride, size)), 5), np.float32) for stride in levels]
    for target in targets:
        target[:, 0] = IGNORED if truth is None else BACKGROUND
    if truth is not None and len(truth):
        ranges = farthest(levels, size)
        answered = truth.crowd.copy()
        for target, stride, ends in zip(targets, levels, ranges, strict=True):
            answered |= _fill(target, truth, stride, ends, size)
        left = np.flatnonzero(~answered)
        for index in left[np.argsort(-_areas(truth.xyxy[left]), kind="stable")]:  # the smallest last, which keeps its cell
            _place(targets, truth, index, levels, ranges, size)
    return np.concatenate(targets)


def _areas(boxes: Array) -> Array:
    return (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)


def _fill(target: Array, truth: SeenBoxes, stride: int, ends: tuple[float, float], size: tuple[int, int]) -> Array:
    """Write a level's targets; which of the boxes have a cell that could answer for them."""
    middle = centres(stride, size)
    sides = np.concatenate([middle[:, None] - truth.xyxy[None, :, :2], truth.xyxy[None, :, 2:] - middle[:, None]], axis=2)
    inside = sides.min(axis=2) > 0
    target[(inside & truth.crowd).any(axis=1), 0] = IGNORED
    away = np.abs(middle[:, None] - (truth.xyxy[:, :2] + truth.xyxy[:, 2:]) / 2).max(axis=2)
    reach = sides.max(axis=2)
    fits = inside & ~truth.crowd & (away < _CENTRE * stride) & (reach >= ends[0]) & (reach < ends[1])
    smallest = np.where(fits, _areas(truth.xyxy), np.inf).argmin(axis=1)
    answers = np.flatnonzero(fits.any(axis=1))
    target[answers, 0] = truth.classes[smallest[answers]]
    target[answers, 1:] = sides[answers, smallest[answers]] / stride
    return np.asarray(fits.any(axis=0))


def _place(
    targets: Sequence[Array],
    truth: SeenBoxes,
    index: int,
    levels: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    size: tuple[int, int],
) -> None:
    """Give a box that no cell answers for the one that is left to it, unless that answers for a smaller box."""
    box = truth.xyxy[index]
    reach = (box[2:] - box[:2]).max() / 2
    own = next(number for number, (_, end) in enumerate(ranges) if reach < end)
    for number in range(own, -1, -1):
        middle = centres(levels[number], size)
        inside = np.flatnonzero(((middle > box[:2]) & (middle < box[2:])).all(axis=1))
        if len(inside):
            break
    else:
        number, inside = 0, np.arange(len(centres(levels[0], size)))
        middle = centres(levels[0], size)
    cell = inside[np.abs(middle[inside] - (box[:2] + box[2:]) / 2).max(axis=1).argmin()]
    sides = np.concatenate([middle[cell] - box[:2], box[2:] - middle[cell]]).clip(0) / levels[number]
    target = targets[number][cell]
    if target[0] < 0 or (sides[0] + sides[2]) * (sides[1] + sides[3]) <= (target[1] + target[3]) * (target[2] + target[4]):
        target[0], target[1:] = truth.classes[index], sides
