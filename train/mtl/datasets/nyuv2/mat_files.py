"""MATLAB's files of NYUv2 that are not HDF5: arrays of numbers, or one kind of error.

SciPy reads such files, too, but raises a dozen kinds of errors on damaged ones, and some end the process. Source of the format:
MathWorks, "MAT-File Format", Level 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mtl.datasets.nyuv2.layout import DatasetError

__all__ = ["read_numbers"]

_HEADER, _MOST_BYTES = 128, 1 << 26
_COMPRESSED, _MATRIX = 15, 14
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy's types of data elements, by their number."""
_NUMERIC = range(6, 16)
"""Kinds of arrays: not cells, structures, objects, text or sparse ones. Complex ones have a fifth part."""


class _Damaged(Exception):
    """Why a file is none."""


def read_numbers(path: Path, *names: str, where: str) -> list[np.ndarray]:
    """(N,) float64 of each variable, in the order of `names`, as MATLAB's own order of its elements is.

    Args:
        where: what says where the file is to be had; it ends every message.
    Raises:
        DatasetError: the file cannot be read, lacks a variable, or holds something else than numbers.
    """
    try:
        found = {name: values for name, values in _variables(path.read_bytes()) if name in names}
    except (OSError, _Damaged) as exc:
        raise DatasetError(f"{path} cannot be read ({exc}). {where}") from exc
    numbers: list[np.ndarray] = []
    for name in names:
        values = found.get(name)
        if values is None:
            lacks = "has no variable" if name not in found else "has something else than real numbers in"
            raise DatasetError(f"{path} {lacks} {name}. {where}")
        numbers.append(values)
    return numbers


def _variables(data: bytes) -> Iterator[tuple[str, np.ndarray | None]]:
    """Name and values of each variable; None for those that are no real numbers."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
    if order is None or not data.startswith(b"MATLAB 5.0"):
        raise _Damaged("expected a file of MATLAB, level 5")
    for kind, content in _elements(data, _HEADER, order):
        if kind == _COMPRESSED:
            content = _inflated(content)
            kind, content = next(_elements(content, 0, order), (0, b""))
        if kind != _MATRIX:
            raise _Damaged(f"expected a matrix, found an element of the kind {kind}")
        yield _matrix(content, order)


def _inflated(content: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        found = inflate.decompress(content, _MOST_BYTES)
    except zlib.error as exc:
        raise _Damaged(str(exc)) from exc
    if not inflate.eof:
        raise _Damaged("a variable is cut off, or larger than those of this data set")
    return found


def _elements(data: bytes, place: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the data elements from `place` on."""
    while place < len(data):
        if place + 8 > len(data):
            raise _Damaged("it is cut off")
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # a small one: both numbers in the first four bytes, the content in the others
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            if size > 4:
                raise _Damaged("a small element has more than four bytes")
        end = start + size
        if end > len(data):
            raise _Damaged("it is cut off")
        yield kind, data[start:end]
        place = end if kind == _COMPRESSED else -(-end // 8) * 8


def _matrix(content: bytes, order: str) -> tuple[str, np.ndarray | None]:
    parts = list(_elements(content, 0, order))
    if len(parts) < 3:
        raise _Damaged("a variable lacks its flags, its sides or its name")
    (_, flags), _, (_, name) = parts[:3]
    if len(flags) < 4:
        raise _Damaged("a variable lacks its flags")
    values, kind_of_array = None, struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    if len(parts) == 4 and kind_of_array in _NUMERIC and (numbers := _NUMBERS.get(parts[3][0])):
        kind = np.dtype(f"{order}{numbers}")
        if len(parts[3][1]) % kind.itemsize:
            raise _Damaged("a variable is cut off")
        values = np.frombuffer(parts[3][1], kind).astype(np.float64)
    return name.decode("latin-1"), values
