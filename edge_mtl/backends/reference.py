"""The few runtimes and Q/DQ styles that the rest of the package has to name, each with the reason.

Everything else goes by the registry: whoever needs a property of a runtime asks its `BackendSpec`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType

from edge_mtl.backends.availability import Availability, available, prove
from edge_mtl.backends.registry import BACKENDS, spec_of
from edge_mtl.errors import BackendUnavailable
from edge_mtl.packages import import_package

__all__ = [
    "CPU_STYLE",
    "CPU_STYLES",
    "GPU_STYLE",
    "REFERENCE_RUNTIME",
    "has_reference",
    "import_reference",
    "reference_runtime",
]

REFERENCE_RUNTIME = "onnxruntime"
"""Runs what others are compared with: FP32 as anyone can run it; INT8 graphs as they are written, without optimisations, which
is their exact arithmetic; and graphs with more outputs than they were exported with, for calibration and embeddings."""

CPU_STYLE = "onnxruntime"
GPU_STYLE = "tensorrt"
"""The two Q/DQ styles of the INT8 graphs that travel in a bundle, `model.int8-cpu.onnx` and `model.int8.onnx`: its format."""

CPU_STYLES = ("onnxruntime", "openvino")
"""What a recipe is for that names no targets: fixed, for digests of recipes depend on it."""


def reference_runtime(found: Mapping[str, Availability]) -> str:
    """What runs FP32 for comparison: the reference runtime, else the first on the processor that runs FP32 graphs; imported.

    Args:
        found: from `edge_mtl.backends.available`.
    Raises:
        BackendUnavailable: none of them is here.
    """
    able = [name for name, spec in BACKENDS.items() if spec.device == "cpu" and "fp32" in spec.unbuilt]
    for name in (REFERENCE_RUNTIME, *able):
        if name in found and prove(spec_of(name), found[name]).usable:
            return name
    raise BackendUnavailable(prove(spec_of(REFERENCE_RUNTIME), found[REFERENCE_RUNTIME]).reason)


def has_reference() -> bool:
    """Whether the reference runtime can be used here; imported."""
    return prove(spec_of(REFERENCE_RUNTIME), available()[REFERENCE_RUNTIME]).usable


def import_reference(why: str) -> ModuleType:
    """ONNX Runtime's own package, for sessions that ask a graph for its inner tensors.

    Args:
        why: what it is for, for the message where it is missing.
    Raises:
        BackendUnavailable: it is missing or broken.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # see `edge_mtl.backends.onnxruntime.backend`
    spec = spec_of(REFERENCE_RUNTIME)
    return import_package(REFERENCE_RUNTIME, spec.member, use=f"{why} needs {spec.title}", install=f"edge-mtl[{spec.extra}]")
