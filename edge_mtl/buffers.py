"""Arrays that are used again once nobody holds them: fresh memory costs a page fault per 4 kB, often more than the work.

Knows shapes and reference counts; knows nothing about frames or runtimes. An array handed out belongs to whoever holds
it, for as long as they hold it or any view of it; only when the last reference is gone may the pool hand it out again.
"""

from __future__ import annotations

import sys
import threading

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
        self._arrays: dict[tuple[tuple[int, ...], np.dtype], list[np.ndarray]] = {}
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of `shape` with arbitrary content, contiguous, referenced by nobody else."""
        key = (shape, np.dtype(dtype))
        with self._lock:
            same = self._arrays.get(key, ())
            for index in range(len(same)):
                if sys.getrefcount(same[index]) <= _UNSHARED:
                    return same[index]
            array = np.empty(shape, key[1])
            if self._kept_bytes + array.nbytes > self._limit_bytes:
                self._arrays.clear()
                self._kept_bytes = 0
            if array.nbytes <= self._limit_bytes:
                self._arrays.setdefault(key, []).append(array)
                self._kept_bytes += array.nbytes
            return array


def _unshared_count() -> int:
    """What getrefcount says of an array that only a list holds, asked in the way `take` asks."""
    held = [np.empty(1)]
    return sys.getrefcount(held[0])


_UNSHARED = _unshared_count()
