"""Reads safetensors with NumPy alone: an 8-byte length, a JSON header, then the tensors' bytes.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_mtl.documents import parse_json
from edge_mtl.errors import BundleError

__all__ = ["header_end", "read_tensors"]

Array = np.ndarray

_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "BOOL": "u1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BF16": "<u2"},  # NumPy has no BF16: its bits
}


def header_end(payload: bytes | memoryview) -> int:
    """Where the tensors' bytes begin, or 0 where this is not a safetensors file."""
    view = memoryview(payload)
    end = 8 + int.from_bytes(view[:8], "little")
    return end if 8 < end <= len(view) else 0


def read_tensors(payload: bytes | memoryview, *, name: str) -> dict[str, Array]:
    """Every tensor by name, a read-only view of `payload`; BF16 as uint16.

    Args:
        name: of the file, for messages.
    Raises:
        BundleError: not a safetensors file, or an entry that reaches outside of it.
    """
    end = header_end(payload)
    view = memoryview(payload).toreadonly()
    try:
        header = parse_json(bytes(view[8:end]))
        data = view[end:]
        return {key: _tensor(entry, data) for key, entry in header.items() if key != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise BundleError(
            f"{name} is not a safetensors file that this version reads ({type(exc).__name__}: {str(exc)[:100]}). "
            "Restore it from where the bundle came from, or export the bundle again."
        ) from exc


def _tensor(entry: Mapping[str, Any], data: memoryview) -> Array:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    start, stop = entry["data_offsets"]
    if not all(type(side) is int and side >= 0 for side in (*shape, start, stop)):
        raise ValueError("a shape or an offset is not a count")
    if not start <= stop <= len(data) or stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{shape} of {dtype} at {start} to {stop} of {len(data)} bytes does not fit")
    return np.ndarray(shape, dtype, buffer=data, offset=start)
