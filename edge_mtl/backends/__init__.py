"""Runtimes that run ONNX graphs, one file each, behind one small protocol.

Knows which runtimes exist, how to find out whether they are here, and how to open one; knows nothing about tasks, images
or bundles. No runtime is imported before it is opened.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np

from edge_mtl.errors import BackendUnavailable

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Availability",
    "Backend",
    "BackendInfo",
    "Precision",
    "TensorSpec",
    "available",
    "open_backend",
]

Array = np.ndarray
Precision = Literal["fp32", "bf16", "fp16", "int8", "int8+bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and type of one input or output."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What runs a graph: runtime, its version, device, precision asked for, threads."""

    name: str
    version: str
    device: str
    precision: str
    threads: int


class Backend(Protocol):
    """One loaded graph. `run` may be called by several threads at once; `close` only when none runs."""

    @property
    def info(self) -> BackendInfo: ...
    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...
    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name; the arrays are the caller's. Raises InferenceError."""
        ...

    def close(self) -> None:
        """Free the graph. Calling it again does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a runtime can be used here.

    Attributes:
        usable: it is installed.
        version: of the installed runtime, "" where there is none.
        reason: why it can or cannot be used, a sentence.
        extra: name of the extra that installs it: pip install "edge-mtl[EXTRA]".
    """

    usable: bool
    version: str
    reason: str
    extra: str


@dataclass(frozen=True, slots=True)
class _Runtime:
    module: str
    package: str
    distributions: tuple[str, ...]
    extra: str


_RUNTIMES: Mapping[str, _Runtime] = {
    "onnxruntime": _Runtime("edge_mtl.backends.onnxruntime", "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "cpu"),
    "openvino": _Runtime("edge_mtl.backends.openvino", "openvino", ("openvino",), "openvino"),
}

BACKENDS: tuple[str, ...] = tuple(_RUNTIMES)
"""Every backend; without a built engine the first one that is here is taken."""


def available() -> dict[str, Availability]:
    """Which runtimes are here, by backend name. Looks at installed packages only: nothing is imported."""
    return {name: _availability(runtime) for name, runtime in _RUNTIMES.items()}


def open_backend(
    name: str,
    model: bytes,
    *,
    threads: int | None = None,
    precision: str = "fp32",
    cache_dir: Path | None = None,
) -> Backend:
    """Load a graph with the runtime `name`.

    Args:
        model: an ONNX file whose digest has been checked.
        threads: worker threads; by default one per physical core that this process may use.
        precision: what floating-point layers compute in; "int8" graphs carry their integers themselves.
        cache_dir: where the runtime may keep compiled code, if it does that.
    Raises:
        BackendUnavailable: unknown, not installed, broken, or it cannot compute in `precision` here.
        BundleError: the runtime refuses the graph.
    """
    runtime = _RUNTIMES.get(name)
    if runtime is None:
        raise BackendUnavailable(f"Unknown backend {name!r}. Choose one of: {', '.join(_RUNTIMES)}")
    if precision not in PRECISIONS:
        raise BackendUnavailable(f"Unknown precision {precision!r}. Choose one of: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads should be at least 1; found {threads}")
    found = _availability(runtime)
    if not found.usable:
        raise BackendUnavailable(found.reason)
    try:
        module = importlib.import_module(runtime.module)
    except ImportError as exc:
        raise BackendUnavailable(f"{runtime.package} is installed but does not import ({exc}). {_install(runtime)}") from exc
    backend: Backend = module.open_graph(model, threads=threads, precision=precision, cache_dir=cache_dir)
    return backend


def _availability(runtime: _Runtime) -> Availability:
    if importlib.util.find_spec(runtime.package) is None:
        return Availability(False, "", f"{runtime.package} is not installed. {_install(runtime)}", runtime.extra)
    for distribution in runtime.distributions:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return Availability(True, version, f"{distribution} {version} is installed", runtime.extra)
    return Availability(True, "unknown", f"{runtime.package} is installed", runtime.extra)


def _install(runtime: _Runtime) -> str:
    return f'Install it with: pip install "edge-mtl[{runtime.extra}]"'
