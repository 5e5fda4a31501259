"""An ONNX graph from its parts: the file without its weights, and a table that says where each tensor goes.

The table can only copy bytes: a window of a tensor, its axes in another order, and one factor per output channel, applied
in float64 and rounded once to float32, which IEEE 754 makes the same on every processor. Knows nothing about ONNX.

A file of parts is an 8-byte length, a JSON header, the bytes that belong to no tensor, and the factors as float64.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.documents import parse_json
from edge_mtl.errors import BundleError
from edge_mtl.onnx_graph.allowlist import MAX_MODEL_BYTES

__all__ = ["MAX_USES", "Piece", "assemble", "encode_parts"]

Array = np.ndarray

MAX_USES = 4
"""A graph may be so many times as large as the weights it is made from, and what its parts hold themselves."""

_FORMAT = 1
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a tensor's bytes go in the graph's file, and how they are laid out there.

    Attributes:
        at: offset in the assembled file.
        tensor: name in weights.safetensors.
        axes: order of the tensor's axes in the file; empty for its own order.
        window: (start, stop) per axis of the tensor; empty for all of it.
        factors: (C,) float64, one per entry of the window's first axis; None for the bytes as they are.
    """

    at: int
    tensor: str
    axes: tuple[int, ...] = ()
    window: tuple[tuple[int, int], ...] = ()
    factors: Array | None = None

    def view(self, tensors: Mapping[str, Array]) -> Array:
        """The tensor's window in its own order of axes, not scaled. Raises KeyError, ValueError: it does not fit."""
        view = tensors[self.tensor]
        if self.window:
            inside = all(0 <= start < stop <= side for (start, stop), side in zip(self.window, view.shape, strict=True))
            if not inside:
                raise ValueError(f"the window {self.window} leaves {self.tensor} {view.shape}")
            view = view[tuple(slice(start, stop) for start, stop in self.window)]
        if self.factors is not None and (view.dtype != np.float32 or view.shape[:1] != self.factors.shape):
            raise ValueError(f"{len(self.factors)} factors for {self.tensor} {view.shape} of {view.dtype}")
        return view.transpose(self.axes) if self.axes and self.factors is None else view

    def payload(self, tensors: Mapping[str, Array]) -> bytes:
        """The bytes that go into the file."""
        view = self.view(tensors)
        if self.factors is not None:
            with np.errstate(all="ignore"):  # the digest of the whole says what is wrong
                view = (view.astype(np.float64) * self.factors.reshape(-1, *(1,) * (view.ndim - 1))).astype(np.float32)
            view = view.transpose(self.axes) if self.axes else view
        return view.tobytes()


def assemble(parts: bytes, tensors: Mapping[str, Array], *, name: str) -> bytes:
    """The graph's file, as it was before it was split.

    Args:
        parts: what `encode_parts` made.
        tensors: of weights.safetensors.
        name: of the file of parts, for messages.
    Raises:
        BundleError: damaged parts, or a table that does not fit these tensors. Nothing large is allocated then.
    """
    try:
        rest, pieces = _decode(parts)
        sizes = [piece.view(tensors).nbytes for piece in pieces]
        total = len(rest) + sum(sizes)
        allowed = min(MAX_MODEL_BYTES, len(rest) + MAX_USES * sum(tensor.nbytes for tensor in tensors.values()))
        if total > allowed:
            raise ValueError(f"a graph of {total} bytes, at most {allowed} were expected")
        chunks: list[bytes | memoryview] = []
        taken = end = 0
        for piece, size in zip(pieces, sizes, strict=True):
            between = piece.at - end
            if not 0 <= between <= len(rest) - taken:
                raise ValueError(f"the piece at {piece.at} is out of order")
            chunks += [rest[taken : taken + between], piece.payload(tensors)]
            taken, end = taken + between, piece.at + size
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, struct.error) as exc:
        what = f"no tensor {exc}" if isinstance(exc, KeyError) else str(exc)
        raise BundleError(
            f"{name} does not fit the bundle's weights ({what[:150]}). "
            "Restore both from where the bundle came from, or export the bundle again."
        ) from exc
    chunks.append(rest[taken:])
    return b"".join(chunks)


def encode_parts(model: bytes, pieces: Sequence[tuple[Piece, int]]) -> bytes:
    """The file of parts of `model`.

    Args:
        pieces: in order of their offsets, each with its size in bytes.
    """
    rest: list[bytes] = []
    factors: list[Array] = []
    table, count, end = [], 0, 0
    for piece, size in pieces:
        rest.append(model[end : piece.at])
        end = piece.at + size
        entry: dict[str, Any] = {"at": piece.at, "tensor": piece.tensor}
        if piece.axes:
            entry["axes"] = piece.axes
        if piece.window:
            entry["window"] = piece.window
        if piece.factors is not None:
            entry["factors"] = [count, len(piece.factors)]
            factors.append(piece.factors.astype("<f8"))
            count += len(piece.factors)
        table.append(entry)
    rest.append(model[end:])
    content = {"format": _FORMAT, "factors": count, "pieces": table}
    header = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    return b"".join([_LENGTH.pack(len(header)), header, *rest, *(values.tobytes() for values in factors)])


def _decode(parts: bytes) -> tuple[memoryview, list[Piece]]:
    """The bytes of no tensor, and the table. Raises ValueError and what reading of wrong JSON raises."""
    (length,) = _LENGTH.unpack_from(parts)
    start = _LENGTH.size + length
    if start > len(parts):
        raise ValueError("its table is cut short")
    header = parse_json(parts[_LENGTH.size : start])
    if header["format"] != _FORMAT:
        raise ValueError(f"format {header['format']!r}, this version reads {_FORMAT}")
    count = header["factors"]
    if type(count) is not int or not 0 <= count * 8 <= len(parts) - start:
        raise ValueError("its factors are cut short")
    stop = len(parts) - count * 8
    factors = np.frombuffer(parts, "<f8", count, stop)
    return memoryview(parts)[start:stop], [_piece(entry, factors) for entry in header["pieces"]]


def _piece(entry: Mapping[str, Any], factors: Array) -> Piece:
    window = tuple((start, stop) for start, stop in entry.get("window", ()))
    axes, at = tuple(entry.get("axes", ())), entry["at"]
    if not all(type(number) is int for number in (at, *axes, *itertools.chain(*window))) or not isinstance(
        entry["tensor"], str
    ):
        raise TypeError("an entry of its table holds something else than names and counts")
    scale = None
    if "factors" in entry:
        first, count = entry["factors"]
        if not (type(first) is int and type(count) is int and 0 <= first <= first + count <= len(factors)):
            raise ValueError("an entry of its table names factors that are not there")
        scale = factors[first : first + count]
    return Piece(at, entry["tensor"], axes, window, scale)
