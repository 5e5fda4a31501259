"""Memory of the GPU that is lent to callers as arrays and comes back when they drop them. Knows nothing about runs."""

from __future__ import annotations

import math
import weakref
from collections import deque

from edge_mtl.backends import TensorSpec
from edge_mtl.cuda import Cuda, DeviceMemory
from edge_mtl.cuda.arrays import DeviceArray

__all__ = ["DevicePool"]


class _Loan:
    """Held by an array; when it is collected, in whatever thread, the memory is only put back: no call of CUDA is made."""

    __slots__ = ("__weakref__",)


class DevicePool:
    """Blocks by size. Calls are made within `Cuda.active()`, by one thread at a time."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._idle: dict[int, deque[DeviceMemory]] = {}
        self._all: list[DeviceMemory] = []

    def take(self, spec: TensorSpec, *, device: int) -> DeviceArray:
        """Memory for an array of this shape and type, with arbitrary content. Raises CudaOutOfMemory."""
        nbytes = max(1, math.prod(spec.shape)) * spec.dtype.itemsize
        idle = self._idle.setdefault(nbytes, deque())
        if idle:
            memory = idle.popleft()
        else:
            memory = self._cuda.device_memory(nbytes)
            self._all.append(memory)
        loan = _Loan()
        weakref.finalize(loan, idle.append, memory).atexit = False
        return DeviceArray.contiguous(memory.address, spec.shape, spec.dtype, device=device, owner=loan)

    def free(self) -> None:
        """Give everything back, also what is lent."""
        for memory in self._all:
            memory.free()
        self._all.clear()
        self._idle.clear()
