"""A lock between processes that is free again when its holder ends, however it ends. Knows nothing about engines."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from edge_mtl.errors import BuildError

__all__ = ["exclusive"]

_POLL_S = 0.05


@contextlib.contextmanager
def exclusive(path: Path, *, timeout_s: float | None = None, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock file `path` within the block; yields whether another process had to be waited for.

    The kernel drops the lock when the holder dies; the empty file stays.

    Args:
        timeout_s: give up after this long; None waits as long as it takes. Signals interrupt the wait.
        waiting: called once when the lock is found taken.
    Raises:
        BuildError: the lock was not free in time, or this system has no such locks.
        OSError: the file cannot be made.
    """
    try:
        fcntl = import_module("fcntl")
    except ImportError as exc:
        raise BuildError("Building engines needs file locks (fcntl), which this system does not have.") from exc
    descriptor = _open(path)
    try:
        waited, start = False, time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, path):
                    break
                gone, descriptor = descriptor, _open(path)  # another folder took its folder's place: that one is to be held
                os.close(gone)
                waited = True
            except BlockingIOError as exc:
                if not waited and waiting is not None:
                    waiting()
                waited = True
                if timeout_s is not None and time.monotonic() - start > timeout_s:
                    raise BuildError(
                        f"{path} was held by another build for {timeout_s:g} s. Try again when it has ended."
                    ) from exc
                time.sleep(_POLL_S)
        yield waited
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether `path` still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
