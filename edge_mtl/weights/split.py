"""Finds the stored weights in an ONNX graph, so that a bundle can leave them out of it.

An initializer is a stored tensor, its axes in another order, a window of it (keys and values, the taps of a convolution that
can be reached), or such a window times one factor per output channel (batch norm folded, the attention's scale). Whatever is
none of these exactly stays where it is.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_mtl.onnx_graph.wire import GRAPH, MODEL, TENSOR, Refused, fields, varint
from edge_mtl.weights.assembly import Piece, encode_parts

__all__ = ["split_graph"]

Array = np.ndarray
Window = tuple[tuple[int, int], ...]

_LEAST_BYTES = 256
"""Smaller initializers stay: their entry in the table would be as long."""

_FLOAT = 1
_TINY = float(np.finfo(np.float32).tiny)
_MOST_ORDERS = 24


@dataclass(frozen=True, slots=True)
class _Initializer:
    """Where the raw data of an initializer lie in the file."""

    at: int
    size: int
    shape: tuple[int, ...]
    dtype: int


def split_graph(model: bytes, tensors: Mapping[str, Array]) -> bytes | None:
    """The graph's file of parts, for `assemble`; None where no initializer is found among the tensors.

    Args:
        model: an ONNX file.
        tensors: of weights.safetensors.
    """
    try:
        large = [found for found in _initializers(model) if found.size >= _LEAST_BYTES]
    except Refused:
        return None
    orders = _orders(tensors, {found.size for found in large})
    pieces = []
    for found in sorted(large, key=lambda one: one.at):
        piece = orders.get(_digest(memoryview(model)[found.at : found.at + found.size])) or _window(model, found, tensors)
        if piece is not None:
            pieces.append((replace(piece, at=found.at), found.size))
    return encode_parts(model, pieces) if pieces else None


def _initializers(model: bytes) -> Iterator[_Initializer]:
    for field, start, end in fields(model, 0, len(model), MODEL):
        if field == 7:
            for inner, first, last in fields(model, start, end, GRAPH):
                if inner == 5:
                    yield from _raw(model, first, last)


def _raw(model: bytes, start: int, end: int) -> Iterator[_Initializer]:
    shape: list[int] = []
    dtype, at, size = 0, 0, 0
    for field, first, last in fields(model, start, end, TENSOR):
        if field == 1:
            while first < last:
                side, first = varint(model, first, last)
                shape.append(side)
        elif field == 2:
            dtype = varint(model, first, last)[0]
        elif field == 9:
            at, size = first, last - first
    if size:
        yield _Initializer(at, size, tuple(shape), dtype)


def _orders(tensors: Mapping[str, Array], sizes: set[int]) -> dict[bytes, Piece]:
    """Whole tensors in every order of their axes, by the digest of the bytes."""
    found: dict[bytes, Piece] = {}
    for name, tensor in tensors.items():
        if tensor.nbytes not in sizes:
            continue
        units = [axis for axis, side in enumerate(tensor.shape) if side == 1]
        others = [axis for axis, side in enumerate(tensor.shape) if side != 1]
        for order in itertools.islice(itertools.permutations(others), _MOST_ORDERS):
            same = order == tuple(others)
            piece = Piece(0, name, () if same else (*order, *units))
            found.setdefault(_digest(tensor.transpose((*order, *units)).tobytes()), piece)
    return found


def _window(model: bytes, found: _Initializer, tensors: Mapping[str, Array]) -> Piece | None:
    """A window of a stored float32 tensor, as it is or scaled, that equals the initializer."""
    shape = found.shape
    if found.dtype != _FLOAT or math.prod(shape) * 4 != found.size or not shape:
        return None
    target = np.frombuffer(model, "<f4", found.size // 4, found.at).reshape(shape)
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or tensor.size < target.size:
            continue
        for window in _windows(tensor.shape, shape):
            view = tensor[tuple(slice(start, stop) for start, stop in window)]
            whole = view.shape == tensor.shape
            likeness = target.reshape(view.shape)
            if _same(view, likeness):
                return Piece(0, name, (), () if whole else window)
            factors = _factors(view, likeness)
            if factors is not None:
                return Piece(0, name, (), () if whole else window, factors)
    return None


def _windows(stored: Sequence[int], wanted: Sequence[int]) -> Iterator[Window]:
    """Windows of a `stored` shape that have the `wanted` one: at the start, the middle or the end of each axis."""
    sides = list(wanted)
    while len(sides) > len(stored) and sides[-1] == 1:
        sides.pop()
    sides += [1] * (len(stored) - len(sides))
    if len(sides) != len(stored) or any(side > have for side, have in zip(sides, stored, strict=True)):
        return
    gaps = [have - side for side, have in zip(sides, stored, strict=True)]
    for starts in itertools.product(*(sorted({0, gap // 2, gap}) for gap in gaps)):
        yield tuple((start, start + side) for start, side in zip(starts, sides, strict=True))


def _factors(view: Array, target: Array) -> Array | None:
    """(C,) float64 factors s with float32(float64(view) * s) == target bit for bit, by the first axis; None without.

    Each pair of values allows an interval of s, from rounding; all of a channel have to share one. Numbers too small to be
    normal are left out, as a processor may be set to flush them to zero.
    """
    channels = view.shape[0]
    rows, wanted = view.reshape(channels, -1), target.reshape(channels, -1)
    if rows.shape[1] < 4 or not _alike(rows[0], wanted[0]):
        return None
    sizes = np.abs(np.concatenate([rows.ravel(), wanted.ravel()]))
    if not np.isfinite(sizes).all() or ((sizes > 0) & (sizes < _TINY)).any():
        return None
    stored, scaled = rows.astype(np.float64), wanted.astype(np.float64)
    below = (scaled + np.nextafter(wanted, np.float32(-np.inf)).astype(np.float64)) / 2
    above = (scaled + np.nextafter(wanted, np.float32(np.inf)).astype(np.float64)) / 2
    used = stored != 0
    with np.errstate(all="ignore"):
        one, other = below / stored, above / stored
        lowest = np.where(used, np.minimum(one, other), -np.inf).max(axis=1)
        highest = np.where(used, np.maximum(one, other), np.inf).min(axis=1)
        factors = np.where(np.isfinite(lowest) & np.isfinite(highest), (lowest + highest) / 2, 1.0)
        made = (stored * factors[:, None]).astype(np.float32)
    return factors if _same(made, wanted) else None


def _alike(stored: Array, wanted: Array) -> bool:
    """Whether one factor may lead from `stored` to `wanted`: a quick look at two values."""
    order = np.argsort(-np.abs(stored), kind="stable")[:2]
    (first, second), (one, other) = stored[order].astype(np.float64), wanted[order].astype(np.float64)
    return bool(abs(first * other - second * one) <= 1e-5 * abs(first * one)) if first else not stored.any()


def _same(one: Array, other: Array) -> bool:
    return one.tobytes() == other.tobytes() if one.flat[0] == other.flat[0] else False


def _digest(payload: bytes | memoryview) -> bytes:
    return hashlib.sha256(payload).digest()
