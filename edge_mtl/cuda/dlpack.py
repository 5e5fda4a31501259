"""DLPack capsules (dmlc/dlpack, dlpack.h, the structures before version 1.0, which every framework takes) by ctypes.

Knows the layout of the structures and who frees them: the consumer of a capsule calls its deleter, once.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

__all__ = ["CUDA", "ImportedTensor", "export_capsule", "import_capsule"]

CUDA = 2
"""kDLCUDA."""

_NAME, _USED = b"dltensor", b"used_dltensor"
_CODES: dict[str, int] = {"i": 0, "u": 1, "f": 2, "b": 6}
_KINDS = {code: kind for kind, code in _CODES.items()}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))

_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR)(("PyCapsule_New", ctypes.pythonapi))
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))

_EXPORTED: dict[int, tuple[Any, ...]] = {}
"""What capsules that are still in use point to, by the structure's address: C holds no references to Python objects."""


class ImportedTensor:
    """The tensor of a consumed capsule; frees it when it is collected.

    Attributes:
        strides: in elements, None for C order.
    """

    def __init__(self, managed: Any) -> None:
        tensor = managed.contents.tensor
        if tensor.device_type != CUDA or tensor.lanes != 1 or tensor.code not in _KINDS:
            raise ValueError(f"device {tensor.device_type}, type {tensor.code} with {tensor.lanes} lanes")
        kind = "?" if tensor.code == _CODES["b"] else f"{_KINDS[tensor.code]}{tensor.bits // 8}"
        self.dtype = np.dtype(kind)
        self.address = (tensor.data or 0) + tensor.byte_offset
        self.shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
        self.strides = tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else None


def import_capsule(capsule: Any) -> ImportedTensor:
    """Take over what a capsule holds. Raises ValueError for what is none, was consumed, or has a type NumPy lacks."""
    if not _is_valid(id(capsule), _NAME):
        raise ValueError("no DLPack capsule, or one that was consumed")
    managed = ctypes.cast(_pointer(id(capsule), _NAME), ctypes.POINTER(_Managed))
    tensor = ImportedTensor(managed)
    _rename(capsule, _USED)
    if managed.contents.deleter:
        weakref.finalize(tensor, managed.contents.deleter, managed)
    return tensor


def export_capsule(
    owner: Any, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype, device: int
) -> Any:
    """A capsule over memory of a GPU, which keeps `owner` alive until its consumer is done.

    Args:
        strides: in bytes, multiples of the element's size.
    """
    size = len(shape)
    sides = (ctypes.c_int64 * size)(*shape)
    steps = (ctypes.c_int64 * size)(*(step // dtype.itemsize for step in strides))
    shape_at, strides_at = (ctypes.cast(values, ctypes.POINTER(ctypes.c_int64)) for values in (sides, steps))
    bits = dtype.itemsize * 8
    tensor = _Tensor(address, CUDA, device, size, _CODES[dtype.kind], bits, 1, shape_at, strides_at, 0)
    managed = _Managed(tensor, None, _delete)
    key = ctypes.addressof(managed)
    _EXPORTED[key] = (managed, sides, steps, owner)
    return _new(key, _NAME, _destroy)


@_DELETER
def _delete(managed: Any) -> None:
    _EXPORTED.pop(ctypes.addressof(managed.contents), None)


@_DESTRUCTOR
def _destroy(capsule: int) -> None:
    """A capsule that nobody consumed."""
    if _is_valid(capsule, _NAME):
        _EXPORTED.pop(_pointer(capsule, _NAME), None)
