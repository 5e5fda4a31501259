"""Runs one ONNX graph with OpenVINO on the CPU. Knows nothing about tasks or images."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from edge_mtl.backends import Backend, BackendInfo, CompiledGraph, OpenOptions, TensorSpec
from edge_mtl.backends.forks import never_free_in_children
from edge_mtl.backends.int8_saturation import products_saturate, saturating_weights
from edge_mtl.backends.threads import default_threads
from edge_mtl.errors import BackendUnavailable, BundleError, EngineClosed, InferenceError
from edge_mtl.image.buffer_pool import BufferPool

__all__ = ["OpenVinoBackend", "compile_graph", "open_graph"]

Array = np.ndarray


_CONVERTER = "openvino.tools.ovc"
_LEFT_OUT = ("openvino_telemetry", _CONVERTER)


def _lean_openvino() -> ModuleType:
    """The package, imported without its telemetry and its converter of models.

    Telemetry reports each import over the network from a forked process, unless the package that does so is not there: a
    robot's runtime stays silent, starts sooner, and does not fork. The converter takes more than half of the import's
    time and two fifths of its memory (9 MiB); who asks for `openvino.convert_model` in this process still gets it, and
    imports it then.
    """
    before = {name: sys.modules[name] for name in _LEFT_OUT if name in sys.modules}
    for name in _LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        for name in _LEFT_OUT:
            del sys.modules[name]
        sys.modules.update(before)
    if not hasattr(openvino, "convert_model"):
        openvino.__getattr__ = _asked_later
    return openvino


def _asked_later(name: str) -> Any:
    """PEP 562: an attribute that the package does not have."""
    if name == "convert_model":
        return import_module(_CONVERTER).convert_model
    raise AttributeError(f"module 'openvino' has no attribute {name!r}")


ov: Any = _lean_openvino()

_VERSION = ov.__version__.split("-")[0]
_DEVICE = "CPU"
_OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
_FLOATS = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "int8+bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}


@lru_cache(maxsize=1)
def _core() -> Any:
    """The one Core of this process, kept until it ends.

    On processors with AMX the CPU plugin installs a larger stack for signal handlers. Several Cores that come and go put
    back each other's after it was freed, and the next signal that Python handles is a segmentation fault.
    """
    return ov.Core()


def open_graph(model: bytes, options: OpenOptions) -> Backend:
    """See `edge_mtl.backends.open_backend`. BackendUnavailable also for integers that would saturate here, if guarded."""
    if options.guarded and products_saturate() and saturating_weights(model):
        raise BackendUnavailable(
            f"openvino {_VERSION} adds products of bytes in 16 bits on this processor, where the 8-bit weights of this graph "
            'saturate. Take weights of 7 bits (weights.reduce_range = "auto" or "always" in the recipe) or backend onnxruntime.'
        )
    return OpenVinoBackend(
        model,
        threads=options.threads,
        precision=options.precision,
        compiled=options.compiled,
        parallel=options.parallel,
    )


def compile_graph(model: bytes, *, precision: str) -> CompiledGraph | None:
    """See `edge_mtl.backends.compile_graph`."""
    floats = _floats(precision)
    compiled = _compile(model, floats, default_threads())
    try:
        exported = compiled.export_model()
    except Exception:  # a plugin without this ability
        return None
    return CompiledGraph(bytes(exported.getbuffer() if isinstance(exported, io.BytesIO) else exported), _origin(floats))


class OpenVinoBackend:
    """One compiled graph and as many inference requests as threads call it at once."""

    def __init__(
        self,
        model: bytes,
        *,
        threads: int | None = None,
        precision: str = "fp32",
        compiled: CompiledGraph | None = None,
        parallel: int = 1,
    ) -> None:
        """Compile `model`, or load what was compiled of it before.

        Args:
            precision: of floating-point layers; those with Q/DQ nodes run in INT8 whatever it says.
            compiled: from `compile_graph`.
            parallel: requests that run at once, each by `threads`: OpenVINO's streams.
        Raises:
            BackendUnavailable: this CPU does not compute in `precision`; never a silent change of it.
            BundleError: OpenVINO refuses the graph.
        """
        workers = default_threads() if threads is None else threads
        floats = _floats(precision)
        graph, loading = (None, "the graph") if compiled is None else _import(compiled, floats, workers, parallel)
        if graph is None:
            graph = _compile(model, floats, workers, parallel)
        try:
            self.inputs: Mapping[str, TensorSpec] = {port.get_any_name(): _spec(port) for port in graph.inputs}
            self.outputs: Mapping[str, TensorSpec] = {port.get_any_name(): _spec(port) for port in graph.outputs}
            used = graph.get_property("INFERENCE_PRECISION_HINT").to_string()
        except Exception as exc:
            raise BundleError(f"openvino {_VERSION} cannot load this graph: {_last_line(exc)}") from exc
        if used != floats:
            raise BackendUnavailable(f"openvino should compute in {floats} on this CPU but chose {used}.")
        never_free_in_children(graph)
        self.info = BackendInfo("openvino", _VERSION, _DEVICE.lower(), precision, workers, loading)
        self._compiled: Any = graph
        self._idle: list[Any] = []
        self._pool = BufferPool()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Backend.run`."""
        if feeds.keys() != self.inputs.keys():  # a request keeps what it was given before
            raise InferenceError(f"openvino {self.info.version}: the graph takes {list(self.inputs)}; found {list(feeds)}")
        # Tensors borrow this memory without holding it: the arrays must live until the inference is over.
        arrays = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        try:
            with self._request() as request:
                for name, array in arrays.items():
                    request.set_tensor(name, ov.Tensor(array, shared_memory=True))
                request.infer()
                # The runtime owns what it answers and will write to it again.
                return {name: self._pool.copy(request.get_tensor(name).data) for name in self.outputs}
        except EngineClosed:
            raise
        except Exception as exc:
            raise InferenceError(f"openvino {self.info.version} failed: {_last_line(exc)}") from exc

    def close(self) -> None:
        """See `Backend.close`."""
        self._idle.clear()
        self._compiled = None

    @contextmanager
    def _request(self) -> Iterator[Any]:
        """An inference request that nobody else uses meanwhile."""
        compiled = self._compiled
        if compiled is None:
            raise EngineClosed("This openvino graph is closed. Open the engine again.")
        try:
            request = self._idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
            never_free_in_children(request)
        yield request
        if self._compiled is not None:
            self._idle.append(request)


def _floats(precision: str) -> str:
    """OpenVINO's name for what floating-point layers compute in. Raises BackendUnavailable where this CPU cannot."""
    if precision not in _FLOATS:
        raise BackendUnavailable(f"openvino does not compute in {precision}; it does in {', '.join(_FLOATS)}.")
    floats = _FLOATS[precision]
    capabilities = _core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES[floats] not in capabilities:
        raise BackendUnavailable(
            f"openvino does not compute in {precision} on this CPU (it has {', '.join(sorted(capabilities))}). "
            "Use precision fp32 or int8."
        )
    return floats


def _compile(model: bytes, floats: str, threads: int, parallel: int = 1) -> Any:
    core = _core()
    try:
        return core.compile_model(core.read_model(model, b""), _DEVICE, _options(floats, threads, parallel))
    except Exception as exc:
        raise BundleError(f"openvino {_VERSION} cannot load this graph: {_last_line(exc)}") from exc


def _import(compiled: CompiledGraph, floats: str, threads: int, parallel: int) -> tuple[Any, str]:
    """The graph in `compiled`, None if it does not fit, and how `BackendInfo.loading` calls that."""
    if compiled.origin != _origin(floats):
        return None, f"the graph: the compiled code is of {compiled.origin}, this is {_origin(floats)}"
    try:
        return _core().import_model(compiled.payload, _DEVICE, _options(floats, threads, parallel)), "compiled code"
    except Exception as exc:
        return None, f"the graph: openvino {_VERSION} refuses the compiled code ({_last_line(exc)})"


def _origin(floats: str) -> str:
    return f"openvino {ov.__version__}, {floats} {_OPTIONS}"


def _options(floats: str, threads: int, parallel: int = 1) -> dict[str, Any]:
    workers = {"NUM_STREAMS": parallel, "INFERENCE_NUM_THREADS": parallel * threads}
    return {**_OPTIONS, "INFERENCE_PRECISION_HINT": floats, **workers}


def _spec(port: Any) -> TensorSpec:
    if port.get_partial_shape().is_dynamic:
        raise ValueError(f"{port.get_any_name()} should have a fixed shape; found {port.get_partial_shape()}")
    return TensorSpec(tuple(port.get_shape()), np.dtype(port.get_element_type().to_dtype()))


def _last_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[-1][:300] if lines else type(exc).__name__
