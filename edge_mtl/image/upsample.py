"""Bilinear upsampling followed by argmax, softmax or division to unit length: the costly steps behind a network.

Knows planes of numbers; knows nothing about classes, frames or files. Half-pixel centres, edges repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from edge_mtl.image.buffer_pool import BufferPool

__all__ = ["upsampled_argmax", "upsampled_confidence", "upsampled_units"]

Array = np.ndarray

_STRIP_BYTES = 800_000
"""Size of a float plane of a strip: two of them should fit into a second-level cache."""
_CORNER_BYTES = 400_000
"""Planes whose corners are looked at together: they and what is made of them should fit into a second-level cache."""
_MANY = 32
"""Above so many planes the confidence is computed in one pass, see docs/decisions/0021."""
_DEEPEST = -80.0
"""How far under the largest a logit may lie for one pass: between samples the largest falls to three quarters of that at most,
where exponentials of single floats are still exact."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of the upsampling: `samples` become `pixels`, with half-pixel centres.

    Blocks of `unit` samples become blocks of `step` pixels exactly, so that a part of the source which starts and ends
    on blocks can be resized on its own.
    """

    samples: int
    pixels: int
    unit: int
    step: int

    @classmethod
    def of(cls, samples: int, pixels: int) -> _Axis:
        shared = math.gcd(samples, pixels)
        return cls(samples, pixels, samples // shared, pixels // shared)

    def first_pixel(self, cell: int) -> int:
        """The first pixel that lies between samples `cell` and `cell` + 1; the pixel count behind the last cell."""
        if cell <= 0:
            return 0
        if cell >= self.samples - 1:
            return self.pixels
        return -((self.samples - (2 * cell + 1) * self.pixels) // (2 * self.samples))

    def part(self, first: int, last: int) -> tuple[slice, int, slice]:
        """For cells first..last-1: source samples to resize, pixels that makes, and which of those to use."""
        start = first // self.unit
        stop = -(-(last + 1) // self.unit)
        origin = start * self.step
        wanted = slice(self.first_pixel(first) - origin, self.first_pixel(last) - origin)
        return slice(start * self.unit, stop * self.unit), (stop - start) * self.step, wanted


def upsampled_argmax(logits: Array, size: tuple[int, int], *, pool: BufferPool) -> Array:
    """Argmax over planes after upsampling, exactly, without most of the work.

    Between four neighbouring samples a bilinear map is a convex combination of them, so a plane whose largest corner
    lies below the smallest corner of some other plane cannot win anywhere in that cell. Only the bounding boxes of the
    cells where a plane may win are upsampled; a running maximum over the planes does the rest.

    Args:
        logits: (C, h, w) float32, finite, C at most 255.
        size: (H, W) of the result.
        pool: where the result and the working planes come from.
    Returns:
        (H, W) uint8; among equal logits the first plane wins.
    """
    planes, h, w = logits.shape
    labels = pool.take(size, np.uint8)
    labels.fill(0)
    if planes == 1:
        return labels
    if h < 2 or w < 2:
        repeated = logits.repeat(2 if h < 2 else 1, axis=1).repeat(2 if w < 2 else 1, axis=2)
        return upsampled_argmax(np.ascontiguousarray(repeated), size, pool=pool)
    rows, columns = _Axis.of(h, size[0]), _Axis.of(w, size[1])
    candidates = _candidates(logits, pool)
    for first, last in _strips(rows, columns):
        present = candidates[:, first:last]
        possible = np.flatnonzero(present.any(axis=(1, 2)))
        strip = slice(rows.first_pixel(first), rows.first_pixel(last))
        if possible.size == 1:
            labels[strip] = possible[0]
        else:
            _running_maximum(labels[strip], logits, possible, present, first, rows, columns, pool)
    return labels


def upsampled_confidence(logits: Array, size: tuple[int, int], *, pool: BufferPool) -> Array:
    """Softmax at the largest of the upsampled planes: 1 / sum of exp(logit - largest).

    Args:
        logits: (C, h, w) float32, finite.
        size: (H, W) of the result.
        pool: where the result and the working planes come from.
    Returns:
        (H, W) float32 in 0..1. Above 32 planes each is upsampled once in place of twice, and the last digit may differ.
    """
    if len(logits) > _MANY and logits.shape[1] > 1:
        # Less the largest of each sample, which is the same for all planes, so that no exponential overflows.
        under = logits - logits.max(axis=0)
        if float(under.min()) >= _DEEPEST:
            return _one_pass_confidence(under, size, pool)
    best, share, total = (pool.take(size) for _ in range(3))
    _resized(logits[0], best)
    for plane in logits[1:]:
        cv2.max(best, _resized(plane, share), dst=best)
    total.fill(0.0)
    for plane in logits:
        cv2.subtract(_resized(plane, share), best, dst=share)
        cv2.exp(share, dst=share)
        cv2.add(total, share, dst=total)
    cv2.divide(1.0, total, dst=total)
    return total


def upsampled_units(vectors: Array, size: tuple[int, int], *, pool: BufferPool) -> Array:
    """Vectors of unit length after upsampling.

    Args:
        vectors: (3, h, w) float32 of any length; NaN spreads to the pixels it touches.
        size: (H, W) of the result.
        pool: where the result and the working planes come from.
    Returns:
        (H, W, 3) float32; NaN where the length is zero or not finite.
    """
    height, width = size
    x, y, z = planes = [pool.take(size) for _ in range(3)]
    for plane, vector in zip(planes, vectors, strict=True):
        cv2.resize(vector, (width, height), dst=plane, interpolation=cv2.INTER_LINEAR)
    length = pool.take(size)
    cv2.magnitude(x, y, magnitude=length)
    cv2.magnitude(length, z, magnitude=length)
    for plane in planes:
        cv2.divide(plane, length, dst=plane)
    units = pool.take((height, width, 3))
    cv2.merge(planes, dst=units)
    return units


def _running_maximum(
    labels: Array,
    logits: Array,
    possible: Array,
    present: Array,
    first: int,
    rows: _Axis,
    columns: _Axis,
    pool: BufferPool,
) -> None:
    """Fill the `labels` of one strip, whose topmost cells are `first`; `present` (C, cells, w - 1) bool."""
    top = rows.first_pixel(first)
    best = pool.take(labels.shape)
    best.fill(-np.inf)
    winners = pool.take((labels.size,), np.uint8)
    _, part_high, _ = rows.part(first, first + present.shape[1])
    plane = pool.take((part_high * columns.pixels,))
    for k in map(int, possible):
        (a, b), (c, d) = _extent(present[k].any(axis=1)), _extent(present[k].any(axis=0))
        source_rows, high, use_rows = rows.part(first + a, first + b)
        source_columns, wide, use_columns = columns.part(c, d)
        upsampled = plane[: high * wide].reshape(high, wide)
        cv2.resize(logits[k, source_rows, source_columns], (wide, high), dst=upsampled, interpolation=cv2.INTER_LINEAR)
        upsampled = upsampled[use_rows, use_columns]
        y, x = rows.first_pixel(first + a) - top, columns.first_pixel(c)
        box = (slice(y, y + upsampled.shape[0]), slice(x, x + upsampled.shape[1]))
        winner = winners[: upsampled.size].reshape(upsampled.shape)
        cv2.compare(upsampled, best[box], cv2.CMP_GT, dst=winner)
        cv2.max(best[box], upsampled, dst=best[box])
        # Classes come in rising order, so the newest winner is also the largest label.
        np.bitwise_and(winner, np.uint8(k), out=winner)
        cv2.max(labels[box], winner, dst=labels[box])


def _one_pass_confidence(under: Array, size: tuple[int, int], pool: BufferPool) -> Array:
    """As `upsampled_confidence`; `under` is at most 0, and 0 in some plane at every sample."""
    rows, columns = _Axis.of(under.shape[1], size[0]), _Axis.of(under.shape[2], size[1])
    confidence = pool.take(size)
    for first, last in _strips(rows, columns):
        source, high, use = rows.part(first, last)
        share, total, top = (pool.take((high, size[1])) for _ in range(3))
        total.fill(0.0)
        top.fill(0.0)
        for plane in under:
            cv2.exp(_resized(plane[source], share), dst=share)
            cv2.add(total, share, dst=total)
            cv2.max(top, share, dst=top)
        cv2.divide(top[use], total[use], dst=confidence[rows.first_pixel(first) : rows.first_pixel(last)])
    return confidence


def _resized(plane: Array, result: Array) -> Array:
    """`result`, filled with `plane` at its size."""
    cv2.resize(plane, result.shape[::-1], dst=result, interpolation=cv2.INTER_LINEAR)
    return result


def _candidates(logits: Array, pool: BufferPool) -> Array:
    """(C, h - 1, w - 1) bool: whether a class may win anywhere between the four samples of a cell."""
    planes, h, w = logits.shape
    some = max(1, _CORNER_BYTES // (h * w * 4))
    parts = [slice(first, first + some) for first in range(0, planes, some)]
    best = _corners(logits[parts[0]], cv2.min, pool).max(axis=0)
    for part in parts[1:]:
        np.maximum(best, _corners(logits[part], cv2.min, pool).max(axis=0), out=best)
    may_win = pool.take((planes, h - 1, w - 1), np.bool_)
    for part in parts:
        np.greater_equal(_corners(logits[part], cv2.max, pool), best, out=may_win[part])
    return may_win


def _corners(logits: Array, pick: Callable[..., Array], pool: BufferPool) -> Array:
    """(C, h - 1, w - 1) smallest or largest of the four samples around each cell, all planes in two calls."""
    planes, h, w = logits.shape
    tall = logits.reshape(planes * h, w)
    pairs, corners = pool.take((planes * h - 1, w)), pool.take((planes * h, w - 1))
    pick(tall[:-1], tall[1:], dst=pairs)
    pick(pairs[:, :-1], pairs[:, 1:], dst=corners[:-1])
    return corners.reshape(planes, h, w - 1)[:, :-1]


def _strips(rows: _Axis, columns: _Axis) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) row of cells of each strip: whole blocks of about _STRIP_BYTES."""
    block_bytes = rows.step * columns.pixels * 4
    cells = max(1, _STRIP_BYTES // block_bytes) * rows.unit
    for first in range(0, rows.samples - 1, cells):
        yield first, min(first + cells, rows.samples - 1)


def _extent(used: Array) -> tuple[int, int]:
    """First and last (exclusive) true entry."""
    return int(used.argmax()), used.size - int(used[::-1].argmax())
