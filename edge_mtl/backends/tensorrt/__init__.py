"""TensorRT and TensorRT for RTX: plans, which are opened by `open_plan`, and their layer times. Imports nothing until asked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_mtl.backends.tensorrt.backend import TensorRtBackend
    from edge_mtl.backends.tensorrt.opening import open_plan

__all__ = ["TensorRtBackend", "open_plan"]

_LAZY = {"TensorRtBackend": "edge_mtl.backends.tensorrt.backend", "open_plan": "edge_mtl.backends.tensorrt.opening"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
