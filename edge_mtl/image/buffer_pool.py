"""Arrays that are used again once nobody holds them: fresh memory costs a page fault per 4 kB, often more than the work.

Knows shapes and reference counts; knows nothing about frames or runtimes. An array handed out belongs to whoever holds
it, for as long as they hold it or any view of it; only when the last reference is gone may the pool hand it out again.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import weakref

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["BufferPool"]


class BufferPool:
    """Hands out uninitialised arrays. May be used by several threads.

    Args:
        limit_bytes: how much the pool keeps alive by itself; above it, arrays are ordinary ones.
    """

    def __init__(self, *, limit_bytes: int = 256 << 20) -> None:
        self._limit_bytes = limit_bytes
        self._kept_bytes = 0
        self._blocks: dict[int, list[tuple[np.ndarray, int]]] = {}
        self._lock = threading.Lock()
        _LIVE.add(self)

    def renew_lock(self) -> None:
        """In a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of `shape` with arbitrary content, contiguous, referenced by nobody else.

        It starts on a cache line: some vectorised functions round differently elsewhere, and results should repeat.
        """
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        with self._lock:
            for entry in self._blocks.get(size, ()):
                if sys.getrefcount(entry[0]) <= _UNSHARED:
                    return np.ndarray(shape, kind, *entry)
            block = np.empty(size + _CACHE_LINE, np.uint8)
            entry = block, -block.ctypes.data % _CACHE_LINE
            if self._kept_bytes + block.nbytes > self._limit_bytes:
                self._blocks.clear()
                self._kept_bytes = 0
            if block.nbytes <= self._limit_bytes:
                self._blocks.setdefault(size, []).append(entry)
                self._kept_bytes += block.nbytes
            # A view of a view refers to the block itself, so the block's reference count tells of all of them.
            return np.ndarray(shape, kind, *entry)

    def copy(self, array: np.ndarray) -> np.ndarray:
        """A contiguous copy of `array`, as `take` gives arrays: for what a runtime owns and will write to again, or free."""
        copy = self.take(array.shape, array.dtype)
        np.copyto(copy, array)
        return copy


_LIVE: weakref.WeakSet[BufferPool] = weakref.WeakSet()


def _renew_locks() -> None:
    for pool in list(_LIVE):
        pool.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _unshared_count() -> int:
    """What getrefcount says of an array that only a tuple holds, asked in the way `take` asks."""
    entry = (np.empty(1), 0)
    return sys.getrefcount(entry[0])


_CACHE_LINE = 64
_UNSHARED = _unshared_count()
