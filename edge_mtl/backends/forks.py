"""Keeps a runtime's objects from being destroyed in forked children.

A session owns threads that do not exist in the child; destroying it there waits for them, which took over 8 s with ONNX
Runtime or hangs. So a child never frees what it inherited: the memory is its parent's anyway, copied on write.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

__all__ = ["never_free_in_children"]

_LIVE: set[weakref.ref[Any]] = set()


def never_free_in_children(owner: Any) -> None:
    """From now on, a forked child holds `owner` for ever. It must support weak references."""
    _LIVE.add(weakref.ref(owner, _LIVE.discard))


def _hold_all() -> None:
    for reference in tuple(_LIVE):
        owner = reference()
        if owner is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold_all)
