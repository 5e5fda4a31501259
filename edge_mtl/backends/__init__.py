"""Runtimes that run ONNX graphs or plans made of them, one file each, behind one small protocol.

Knows which runtimes exist, how to find out whether they are here, and how to open one; knows nothing about tasks, images
or bundles. No runtime is imported before it is opened.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np

from edge_mtl.cuda import installed_binding
from edge_mtl.cuda.presence import no_gpu
from edge_mtl.errors import BackendUnavailable
from edge_mtl.onnx_graph.allowlist import check_graph

__all__ = [
    "BACKENDS",
    "DEVICES",
    "PRECISIONS",
    "TAKES_GRAPHS",
    "Availability",
    "Backend",
    "BackendInfo",
    "CompiledGraph",
    "Precision",
    "TensorSpec",
    "available",
    "compile_graph",
    "none_usable",
    "open_backend",
    "proven",
]

Array = np.ndarray
Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8", "int8+bf16", "int8+fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and type of one input or output."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What runs a graph: runtime, its version, device, precision asked for, threads.

    Attributes:
        loading: "compiled code" if that spared compiling, else "the graph", with the reason where there was such code.
        device_frames: `run` also takes a `edge_mtl.cuda.letterbox.DeviceFrame`: a frame that lies on the GPU.
    """

    name: str
    version: str
    device: str
    precision: str
    threads: int
    loading: str = "the graph"
    device_frames: bool = False


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """What a runtime made of a graph, to be loaded in its place.

    Attributes:
        payload: to be trusted like a program: whoever reads it from a disk checks who wrote it, and its digest.
        origin: the exact runtime and the options it was made with; another runtime compiles the graph again.
    """

    payload: bytes
    origin: str


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
        usable: its files are installed; for `proven` it has also been imported.
        version: of the installed runtime, "" where there is none.
        reason: why it can or cannot be used, a sentence.
        extra: name of the extra that installs it: pip install "edge-mtl[EXTRA]".
        broken: it is installed, but not whole; `reason` has the command that repairs it.
    """

    usable: bool
    version: str
    reason: str
    extra: str
    broken: bool = False


@dataclass(frozen=True, slots=True)
class _Runtime:
    """Where a runtime is found.

    Attributes:
        packages: Python modules, any of which will do, each with the distributions that install it, for the version.
        device: "cpu" or "cuda".
        plans: it takes plans, which are programs, and not ONNX graphs, which are data.
        binding: it needs one of `edge_mtl.cuda.BINDINGS`.
        name: that every one of `packages` must have; those of a package that is broken may import without it.
    """

    module: str
    packages: Mapping[str, tuple[str, ...]]
    extra: str
    device: str = "cpu"
    plans: bool = False
    binding: bool = False
    name: str = "InferenceSession"


_RUNTIMES: Mapping[str, _Runtime] = {
    "onnxruntime": _Runtime("edge_mtl.backends.onnxruntime", {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}, "cpu"),
    "openvino": _Runtime("edge_mtl.backends.openvino", {"openvino": ("openvino",)}, "openvino", name="Core"),
    "onnxruntime-cuda": _Runtime(
        "edge_mtl.backends.onnxruntime_cuda", {"onnxruntime": ("onnxruntime-gpu",)}, "gpu", device="cuda"
    ),
    "tensorrt": _Runtime(
        "edge_mtl.backends.tensorrt",
        {"tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "tensorrt_rtx": ("tensorrt-rtx", "tensorrt_rtx")},
        "tensorrt",
        device="cuda",
        plans=True,
        binding=True,
        name="Runtime",
    ),
}

BACKENDS: tuple[str, ...] = tuple(_RUNTIMES)
"""Every backend."""
DEVICES: Mapping[str, str] = {name: runtime.device for name, runtime in _RUNTIMES.items()}
"""Kind of device of every backend: "cpu" or "cuda"."""
TAKES_GRAPHS: tuple[str, ...] = tuple(name for name, runtime in _RUNTIMES.items() if not runtime.plans)
"""Backends that run an ONNX graph as it is; the others run a plan that was built of one."""


def available() -> dict[str, Availability]:
    """Which runtimes are here, by backend name. Looks at installed packages only: nothing is imported."""
    return {name: _availability(runtime) for name, runtime in _RUNTIMES.items()}


def proven() -> dict[str, Availability]:
    """As `available`, but every runtime that is found is imported as well, which can take seconds."""
    return {name: _import(_RUNTIMES[name], found) for name, found in available().items()}


def none_usable(found: Mapping[str, Availability]) -> BackendUnavailable:
    """The error where no runtime can be used: repair the one that is broken, else install one."""
    install = 'No runtime is installed. Install one with: pip install "edge-mtl[cpu]"'
    return BackendUnavailable(next((entry.reason for entry in found.values() if entry.broken), install))


def open_backend(
    name: str,
    model: bytes,
    *,
    threads: int | None = None,
    precision: str = "fp32",
    compiled: CompiledGraph | None = None,
    device: int = 0,
) -> Backend:
    """Load a graph, or a plan made of one, with the runtime `name`.

    Args:
        model: an ONNX file whose digest has been checked; the runtime sees it only if `onnx_graph.allowlist` lets it pass.
            For a runtime that is not in `TAKES_GRAPHS` a plan. A plan is a program: it must have been built by this user,
            or be trusted by them, and its digest must have been checked; no list of operators can protect from it.
        threads: worker threads; by default one per physical core that this process may use.
        precision: what floating-point layers compute in; "int8" graphs carry their integers themselves.
        compiled: what `compile_graph` made of this model in this precision on this machine: loads faster. Where it does
            not fit the runtime, the model is compiled again and `Backend.info.loading` says why.
        device: index of the GPU, for runtimes on one.
    Raises:
        BackendUnavailable: unknown, not installed, broken, or it cannot compute in `precision` or on `device` here.
        BundleError: the graph is refused, by the allowlist or by the runtime.
        ValueError: `threads` is below 1.
    """
    module = _module(name, model, threads=threads, precision=precision)
    if _RUNTIMES[name].device == "cuda":
        on_gpu: Backend = module.open_graph(model, precision=precision, device=device)
        return on_gpu
    backend: Backend = module.open_graph(model, threads=threads, precision=precision, compiled=compiled)
    return backend


def compile_graph(name: str, model: bytes, *, precision: str = "fp32") -> CompiledGraph | None:
    """What the runtime `name` makes of a graph, for `open_backend`; None where it cannot give that away.

    It does not depend on the number of threads. Raises as `open_backend` does.
    """
    if name in _RUNTIMES and _RUNTIMES[name].device == "cuda":
        return None  # a plan is compiled code already, and ONNX Runtime keeps none of a GPU
    compiled: CompiledGraph | None = _module(name, model, threads=None, precision=precision).compile_graph(
        model, precision=precision
    )
    return compiled


def _module(name: str, model: bytes, *, threads: int | None, precision: str) -> Any:
    """The module of a runtime, imported once everything that can be checked without it was."""
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
    if not runtime.plans:
        check_graph(model)
    try:
        return importlib.import_module(runtime.module)
    except ImportError as exc:
        package = next(iter(runtime.packages))
        raise BackendUnavailable(f"{package} is installed but does not import ({exc}). {_install(runtime)}") from exc


def _import(runtime: _Runtime, found: Availability) -> Availability:
    """Availability after an attempt to import what was found."""
    package, _ = _package(runtime)
    if not found.usable or package is None:
        return found
    try:
        module = importlib.import_module(package)
    except Exception as exc:  # what a broken installation raises is its vendor's choice
        return _broken(runtime, package, f"{package} is installed but does not import ({exc}).")
    if not hasattr(module, runtime.name):
        return _broken(runtime, package, f"{package} is installed but has no {runtime.name}.")
    return found


def _package(runtime: _Runtime) -> tuple[str | None, bool]:
    """The first of its packages that is found, and whether it is whole.

    Of one that is not, only a folder without a module is left: Python calls that a namespace, and imports it.
    """
    left = None
    for name in runtime.packages:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        if spec.origin is not None or spec.submodule_search_locations is None:
            return name, True
        left = left or name
    return left, False


def _broken(runtime: _Runtime, package: str, what: str) -> Availability:
    """Not usable, with the command after which there is one whole package, whatever is left of those that share its files."""
    installed = []
    for distribution in sorted({name for known in _RUNTIMES.values() for name in known.packages.get(package, ())}):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(distribution)
            installed.append(distribution)
    repair = f'pip install "edge-mtl[{runtime.extra}]"'
    if len(installed) == 1:
        repair = f"pip install --force-reinstall --no-deps {installed[0]}"
    elif installed:
        repair = f"pip uninstall -y {' '.join(installed)} && {repair}"
    return Availability(False, "", f"{what} Run: {repair}", runtime.extra, broken=True)


def _availability(runtime: _Runtime) -> Availability:
    package, whole = _package(runtime)
    if package is None:
        return _absent(runtime, f"{' or '.join(runtime.packages)} is not installed. {_install(runtime)}")
    if not whole:
        left = "is a folder without its module, as it is left by uninstalling one of two packages that share their files."
        return _broken(runtime, package, f"{package} {left}")
    name, version = package, "unknown"
    for distribution in runtime.packages[package]:
        try:
            name, version = distribution, importlib.metadata.version(distribution)
            break
        except importlib.metadata.PackageNotFoundError:
            continue
    if runtime.device == "cuda":
        if version == "unknown" and not runtime.plans:  # the same package for the CPU only
            return _absent(runtime, f"{runtime.packages[package][0]} is not installed. {_install(runtime)}")
        if missing := no_gpu():
            return _absent(runtime, f"{name} {version} is installed, but {missing}")
        if runtime.binding and installed_binding() is None:
            return _absent(runtime, f"{name} {version} is installed, but neither pycuda nor cuda-bindings. {_install(runtime)}")
    return Availability(True, version, f"{name} {version} is installed", runtime.extra)


def _absent(runtime: _Runtime, reason: str) -> Availability:
    return Availability(False, "", reason, runtime.extra)


def _install(runtime: _Runtime) -> str:
    return f'Install it with: pip install "edge-mtl[{runtime.extra}]"'
