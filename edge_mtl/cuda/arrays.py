"""Arrays that lie on a GPU, whoever made them: PyTorch, CuPy, a camera driver, a backend. Reads and gives out the two
conventions for passing them without a copy, `__cuda_array_interface__` and DLPack. Imports no binding and no framework.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.cuda.dlpack import CUDA, export_capsule, import_capsule
from edge_mtl.errors import FrameError

__all__ = ["DeviceArray", "device_array", "is_on_device"]

_INTERFACE = "__cuda_array_interface__"


@dataclass(frozen=True, slots=True, eq=False)
class DeviceArray:
    """Memory of a GPU as an array.

    Attributes:
        address: of the first element.
        strides: bytes from one element to the next, by axis.
        stream: handle of the stream in which it is still being written, as `__cuda_array_interface__` counts them; None
            where it is ready.
        device: index of the GPU, None where the maker did not say.
        owner: keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]
    stream: int | None
    device: int | None
    owner: Any

    @classmethod
    def contiguous(
        cls, address: int, shape: tuple[int, ...], dtype: np.dtype, *, device: int | None, owner: Any
    ) -> DeviceArray:
        """One that is ready, in C order."""
        return cls(address, shape, dtype, _c_strides(shape, dtype.itemsize), None, device, owner)

    @property
    def nbytes(self) -> int:
        """Of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether it is in C order without gaps."""
        return self.strides == _c_strides(self.shape, self.dtype.itemsize)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None if self.is_contiguous else self.strides,
            "stream": self.stream,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device or 0

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A capsule for `from_dlpack` of PyTorch, CuPy or JAX. The array is ready, so the consumer's stream need not wait."""
        return export_capsule(self, self.address, self.shape, self.strides, self.dtype, self.device or 0)


def is_on_device(value: Any) -> bool:
    """Whether `value` says that it lies on a CUDA GPU. Arrays of NumPy never do."""
    if isinstance(value, np.ndarray):
        return False
    try:
        if hasattr(value, "__dlpack_device__"):
            return int(value.__dlpack_device__()[0]) == CUDA
        return getattr(value, _INTERFACE, None) is not None
    except Exception:  # tensors on the CPU raise from this attribute
        return False


def device_array(value: Any) -> DeviceArray:
    """`value` as a DeviceArray, without a copy.

    Raises:
        FrameError: it lies elsewhere, or describes itself wrongly.
    """
    if isinstance(value, DeviceArray):
        return value
    if not is_on_device(value):
        raise FrameError(
            f"an array on the GPU was expected: __cuda_array_interface__ or DLPack; found {type(value).__name__} elsewhere."
        )
    try:
        interface = getattr(value, _INTERFACE, None)
        return _from_interface(interface, value) if interface is not None else _from_dlpack(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exc:
        raise FrameError(f"{type(value).__name__} on the GPU does not describe itself rightly ({exc}).") from exc


def _from_interface(interface: Any, owner: Any) -> DeviceArray:
    shape, dtype = tuple(int(side) for side in interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    if interface.get("mask") is not None:
        raise ValueError("masked arrays are not supported")
    device = getattr(owner, "__dlpack_device__", None)
    return DeviceArray(
        address=int(interface["data"][0]),
        shape=shape,
        dtype=dtype,
        strides=_c_strides(shape, dtype.itemsize) if strides is None else tuple(int(step) for step in strides),
        stream=interface.get("stream"),
        device=int(device()[1]) if device is not None else None,
        owner=owner,
    )


def _from_dlpack(value: Any) -> DeviceArray:
    device = int(value.__dlpack_device__()[1])
    # Stream 1 is the default one, whose work is complete once a synchronising stream waits for it; -1 would mean no waiting.
    found = import_capsule(value.__dlpack__(stream=1))
    if found.strides is None:
        strides = _c_strides(found.shape, found.dtype.itemsize)
    else:
        strides = tuple(step * found.dtype.itemsize for step in found.strides)
    return DeviceArray(found.address, found.shape, found.dtype, strides, 1, device, found)


def _c_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
