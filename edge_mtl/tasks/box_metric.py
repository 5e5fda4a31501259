"""How good boxes are: average precision as COCO has it, kept frame by frame so that frames can be drawn again.

Definition: Lin et al. 2014, "Microsoft COCO: Common Objects in Context", and cocodataset.org/#detection-eval: precision at 101
recalls, at overlaps of 0.50 to 0.95 in steps of 0.05, of at most 100 boxes of a class and frame; boxes in a crowd count neither
way, classes without an object are left out of the mean. What its text leaves open is as in pycocotools, with which the tests
compare: equal scores stay in the order of frames, and of truths that overlap equally the last is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_mtl.tasks.box_overlap import areas, intersections, overlaps

if TYPE_CHECKING:
    from edge_mtl.tasks.box_objects import BoxTruth
    from edge_mtl.tasks.boxes import Boxes

__all__ = ["MOST", "BoxMetric", "FrameMatches", "average_precision", "resampled"]

Array = np.ndarray

_OVERLAPS = np.linspace(0.5, 0.95, 10)
_LEAST = np.minimum(_OVERLAPS, 1.0 - 1e-10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_AT_50, _AT_75 = 0, 5
"""Where the overlaps 0.50 and 0.75 are among `_OVERLAPS`."""
MOST = 100
"""Boxes of a class and frame that count."""
_EVERY_SIZE = (0.0, np.inf)
_NUMBERS = 4_000_000
"""Of draws times boxes that are looked at together."""
_GUESSED = 0.01
"""AP at an overlap of 0.5: less, and boxes are no better than guesses."""
_FEWEST = 20
"""Objects, of which that can be said."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameMatches:
    """What the boxes of one frame are worth.

    Attributes:
        scores: (N,), falling within each class.
        classes: (N,) int64.
        hits: (10, N) bool: the box is an object's at this overlap.
        ignored: (10, N) bool: it counts neither way.
        objects: (C,) int64: how many there are of each class, without crowds.
    """

    scores: Array
    classes: Array
    hits: Array
    ignored: Array
    objects: Array

    @classmethod
    def of(cls, found: Boxes, truth: BoxTruth, *, classes: int, size_px: tuple[float, float] = _EVERY_SIZE) -> FrameMatches:
        """Each box takes, highest score first, the free object of its class that it overlaps most.

        Args:
            size_px: areas that count, in square pixels: objects of another one, and boxes of another one that are no object's,
                count neither way.
        """
        wanted = ~truth.crowd & _within(areas(truth.xyxy.astype(np.float64)), size_px)
        objects = np.bincount(truth.classes[wanted], minlength=classes)
        order = np.argsort(-found.scores, kind="stable")
        parts = []
        for index in np.unique(found.classes):
            own = order[found.classes[order] == index][:MOST]
            there, boxes = truth.classes == index, found.xyxy[own].astype(np.float64)
            real, others = (truth.xyxy[there & chosen].astype(np.float64) for chosen in (wanted, ~wanted))
            hits, ignored = _matched(boxes, real, others, truth.crowd[there & ~wanted])
            ignored |= ~hits & ~_within(areas(boxes), size_px)
            parts.append((found.scores[own], np.full(len(own), index), hits, ignored))
        if not parts:
            nothing = np.zeros((len(_LEAST), 0), bool)
            return cls(np.zeros(0), np.zeros(0, np.int64), nothing, nothing, objects)
        scores, indices, hits, ignored = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return cls(scores, indices, hits, ignored, objects)


class BoxMetric:
    """Average precision over frames.

    Args:
        names: of the classes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._frames: list[FrameMatches] = []

    def update(self, result: Boxes, truth: BoxTruth) -> None:
        """Add a frame: what was found, with boxes of low scores where the result knows them, and what there is."""
        self._frames.append(FrameMatches.of(result.measured, truth, classes=len(self._names)))

    def compute(self) -> dict[str, float]:
        """ap: the mean over overlaps and classes; ap50, ap75: at one overlap. 0..1, NaN where there is no object."""
        return {name: float(value[0]) for name, value in resampled(self._frames, self._once()).items()}

    def statistics(self) -> tuple[FrameMatches, ...]:
        """Of each frame."""
        return tuple(self._frames)

    def details(self) -> dict[str, Any]:
        """class_ap by name, of classes that have objects."""
        values = self.class_precision()
        known = np.flatnonzero(np.isfinite(values))
        return {"class_ap": {self._names[index]: float(values[index]) for index in known}} if known.size else {}

    def class_precision(self) -> Array:
        """(C,) AP of each class, NaN without objects."""
        return np.asarray(average_precision(self._frames, self._once())[0].mean(axis=0))

    def near_chance(self) -> bool:
        """Whether there are enough objects to say that hardly any was found."""
        objects = sum(int(frame.objects.sum()) for frame in self._frames)
        return objects >= _FEWEST and self.compute()["ap50"] < _GUESSED

    def _once(self) -> Array:
        return np.ones((1, len(self._frames)))


def resampled(frames: Sequence[FrameMatches], weights: Array) -> dict[str, Array]:
    """ap, ap50 and ap75 of R draws of F frames, (R,) float64; `weights` (R, F) says how often each frame was drawn."""
    precision = average_precision(frames, weights)
    return {
        "ap": _mean(precision.reshape(len(precision), -1)),
        "ap50": _mean(precision[:, _AT_50]),
        "ap75": _mean(precision[:, _AT_75]),
    }


def average_precision(frames: Sequence[FrameMatches], weights: Array) -> Array:
    """(R, 10, C) average precision of R draws of F frames, by overlap and class; NaN where a draw has no object of a class.

    A frame that was drawn twice has every box and object twice.
    """
    classes = len(frames[0].objects) if frames else 0
    found = np.full((len(weights), len(_LEAST), classes), np.nan)
    if not frames:
        return found
    objects = weights @ np.stack([frame.objects for frame in frames])
    of_frame = np.repeat(np.arange(len(frames)), [len(frame.scores) for frame in frames])
    scores, names = (np.concatenate([getattr(frame, part) for frame in frames]) for part in ("scores", "classes"))
    hits, ignored = (np.concatenate([getattr(frame, part) for frame in frames], axis=1) for part in ("hits", "ignored"))
    for index in np.flatnonzero(objects.any(axis=0)):
        own = np.flatnonzero(names == index)
        own = own[np.argsort(-scores[own], kind="stable")]
        for rows in _blocks(len(weights), len(own)):
            drawn, there = weights[rows][:, of_frame[own]], objects[rows, index]
            found[rows, :, index] = _precision(drawn, hits[:, own], ignored[:, own], there)
    return found


def _blocks(draws: int, boxes: int) -> Iterator[slice]:
    step = max(1, _NUMBERS // max(boxes, 1))
    return (slice(start, start + step) for start in range(0, draws, step))


def _precision(drawn: Array, hits: Array, ignored: Array, objects: Array) -> Array:
    """(R, 10) average precision of one class.

    Between two hits precision only falls, so it is looked at where there are hits: each stands for the recalls that are reached
    with it, and the precision there is the best from it on.

    Args:
        drawn: (R, N) how often each box was drawn, highest score first.
        hits, ignored: (10, N) bool.
        objects: (R,) how many there are.
    """
    found = np.zeros((len(drawn), len(hits)))
    all_seen = drawn.cumsum(axis=1)
    for number, (hit, without) in enumerate(zip(hits, ignored, strict=True)):
        if not hit.any():
            continue
        seen = all_seen[:, hit]
        if without.any():
            left_out = np.pad(drawn[:, without].cumsum(axis=1), ((0, 0), (1, 0)))
            seen = seen - left_out[:, np.cumsum(without)[hit]]
        right = drawn[:, hit].cumsum(axis=1)
        precision = right / (seen + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(_RECALLS, right / np.maximum(objects, 1e-9)[:, None], side="right")
        found[:, number] = (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(_RECALLS)
    return np.where(objects[:, None] > 0, found, np.nan)


def _matched(boxes: Array, objects: Array, others: Array, crowd: Array) -> tuple[Array, Array]:
    """(10, N) bool each: which boxes of one class, highest score first, are an object's, and which are of one that does not
    count.

    Args:
        boxes, objects, others: (N, 4), (M, 4) and (K, 4), the last being those that do not count.
        crowd: (K,) bool: which of them are regions of many, that any number of boxes may lie in.
    """
    hits, ignored = np.zeros((2, len(_LEAST), len(boxes)), bool)
    if len(objects):
        shared, free = overlaps(boxes, objects), np.ones((len(_LEAST), len(objects)), bool)
        for index in np.flatnonzero(shared.max(axis=1) >= _LEAST[0]):
            values = np.where(free, shared[index], -1.0)
            taken = len(objects) - 1 - values[:, ::-1].argmax(axis=1)
            fits = values[np.arange(len(_LEAST)), taken] >= _LEAST
            hits[fits, index] = True
            free[fits, taken[fits]] = False
    if len(others):
        inside = intersections(boxes, others) / np.maximum(areas(boxes), 1e-30)[:, None]
        shared = np.where(crowd, inside, overlaps(boxes, others))
        ignored = ~hits & (shared.max(axis=1) >= _LEAST[:, None]) if crowd.all() else _taken(shared, crowd, hits)
    return hits, ignored


def _taken(shared: Array, crowd: Array, hits: Array) -> Array:
    """(10, N) bool: which boxes that are no object's take one that does not count; each is taken once, but for crowds.

    Args:
        shared: (N, K) how far they overlap.
    """
    found, free = np.zeros(hits.shape, bool), np.ones((len(_LEAST), len(crowd)), bool)
    for index in np.flatnonzero(shared.max(axis=1) >= _LEAST[0]):
        values = np.where(free | crowd, shared[index], -1.0)
        taken = len(crowd) - 1 - values[:, ::-1].argmax(axis=1)
        fits = (values[np.arange(len(_LEAST)), taken] >= _LEAST) & ~hits[:, index]
        found[fits, index] = True
        free[fits, taken[fits]] = False
    return found


def _within(values: Array, limits: tuple[float, float]) -> Array:
    return np.asarray((values >= limits[0]) & (values <= limits[1]))


def _mean(values: Array) -> Array:
    """(R,) means of (R, N) without NaN; NaN where there is nothing else."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1))
