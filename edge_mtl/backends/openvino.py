"""Runs one ONNX graph with OpenVINO on the CPU. Knows nothing about tasks or images."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edge_mtl.backends import Backend, BackendInfo, TensorSpec
from edge_mtl.backends.forks import never_free_in_children
from edge_mtl.backends.threads import default_threads
from edge_mtl.buffers import BufferPool
from edge_mtl.errors import BackendUnavailable, BundleError, EngineClosed, InferenceError

__all__ = ["OpenVinoBackend", "open_graph"]

Array = np.ndarray


def _silent_openvino() -> ModuleType:
    """The package, imported without its telemetry.

    It reports each import over the network from a forked process, unless the package that does so is not there: a
    robot's runtime stays silent, starts sooner, and does not fork.
    """
    name = "openvino_telemetry"
    before = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        del sys.modules[name]
        sys.modules.update(before)
    return openvino


ov: Any = _silent_openvino()

_DEVICE = "CPU"
_FLOATS = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "int8+bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}


@lru_cache(maxsize=1)
def _core() -> Any:
    """The one Core of this process, kept until it ends.

    On processors with AMX the CPU plugin installs a larger stack for signal handlers. Several Cores that come and go put
    back each other's after it was freed, and the next signal that Python handles is a segmentation fault.
    """
    return ov.Core()


def open_graph(model: bytes, *, threads: int | None, precision: str, cache_dir: Path | None) -> Backend:
    """See `edge_mtl.backends.open_backend`."""
    return OpenVinoBackend(model, threads=threads, precision=precision, cache_dir=cache_dir)


class OpenVinoBackend:
    """One compiled graph and as many inference requests as threads call it at once."""

    def __init__(
        self, model: bytes, *, threads: int | None = None, precision: str = "fp32", cache_dir: Path | None = None
    ) -> None:
        """Compile `model`.

        Args:
            precision: of floating-point layers; those with Q/DQ nodes run on integers whatever it says.
            cache_dir: compiled code is kept here, which halves the start of large INT8 graphs.
        Raises:
            BackendUnavailable: this CPU does not compute in `precision`; never a silent change of it.
            BundleError: OpenVINO refuses the graph.
        """
        workers = default_threads() if threads is None else threads
        version = ov.__version__.split("-")[0]
        floats = _FLOATS[precision]
        core = _core()
        self._require(core, floats, precision)
        try:
            compiled = core.compile_model(core.read_model(model, b""), _DEVICE, _options(floats, workers, cache_dir))
            self.inputs: Mapping[str, TensorSpec] = {port.get_any_name(): _spec(port) for port in compiled.inputs}
            self.outputs: Mapping[str, TensorSpec] = {port.get_any_name(): _spec(port) for port in compiled.outputs}
            used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        except Exception as exc:
            raise BundleError(f"openvino {version} cannot load this graph: {_last_line(exc)}") from exc
        if used != floats:
            raise BackendUnavailable(f"openvino should compute in {floats} on this CPU but chose {used}.")
        never_free_in_children(compiled)
        self.info = BackendInfo("openvino", version, _DEVICE.lower(), precision, workers)
        self._compiled: Any = compiled
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
                return {name: self._copied(request.get_tensor(name).data, spec) for name, spec in self.outputs.items()}
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

    def _copied(self, result: Array, spec: TensorSpec) -> Array:
        """The runtime owns `result` and will write to it again."""
        copy = self._pool.take(spec.shape, spec.dtype)
        np.copyto(copy, result)
        return copy

    @staticmethod
    def _require(core: Any, floats: str, precision: str) -> None:
        capabilities = core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
        if _CAPABILITIES[floats] not in capabilities:
            raise BackendUnavailable(
                f"openvino does not compute in {precision} on this CPU (it has {', '.join(sorted(capabilities))}). "
                "Use precision fp32 or int8."
            )


def _options(floats: str, threads: int, cache_dir: Path | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": floats,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    if cache_dir is not None:
        options["CACHE_DIR"] = str(cache_dir)
    return options


def _spec(port: Any) -> TensorSpec:
    if port.get_partial_shape().is_dynamic:
        raise ValueError(f"{port.get_any_name()} should have a fixed shape; found {port.get_partial_shape()}")
    return TensorSpec(tuple(port.get_shape()), np.dtype(port.get_element_type().to_dtype()))


def _last_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[-1][:300] if lines else type(exc).__name__
