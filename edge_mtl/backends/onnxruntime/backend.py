"""Runs one ONNX graph with ONNX Runtime on the CPU. Knows nothing about tasks or images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

# Since 1.29 the official builds report to their maker over the network unless this is set before they are imported; the
# thread that does so also keeps forked children from exiting. A robot's runtime stays silent unless its owner wants it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from edge_mtl.backends import Backend, BackendInfo, CompiledGraph, OpenOptions, TensorSpec
from edge_mtl.backends.forks import never_free_in_children
from edge_mtl.backends.int8_saturation import keep_exact, products_saturate
from edge_mtl.backends.threads import default_threads
from edge_mtl.errors import BackendUnavailable, BundleError, EngineClosed, InferenceError
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.unfinished import scratch_folder

__all__ = ["OnnxRuntimeBackend", "compile_graph", "first_line", "open_graph", "session_options", "tensor_spec"]

Array = np.ndarray

_PROVIDER = "CPUExecutionProvider"
_FATAL_ONLY = 4
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16", "tensor(int64)": "int64"}


def open_graph(model: bytes, options: OpenOptions) -> Backend:
    """See `edge_mtl.backends.open_backend`."""
    return OnnxRuntimeBackend(
        model,
        threads=options.threads,
        precision=options.precision,
        compiled=options.compiled,
        parallel=options.parallel,
    )


def compile_graph(model: bytes, *, precision: str) -> CompiledGraph | None:
    """See `edge_mtl.backends.compile_graph`: the graph as ONNX Runtime rewrites it for this processor, in its own format."""
    _check_precision(precision)
    with scratch_folder("compiled") as folder:
        file = folder / "graph.ort"
        options = session_options(default_threads(), model)
        options.optimized_model_filepath = str(file)
        options.add_session_config_entry("session.save_model_format", "ORT")
        _load(model, options)
        return CompiledGraph(file.read_bytes(), _origin()) if file.is_file() else None


class OnnxRuntimeBackend:
    """One inference session. Runs float graphs in FP32, and graphs with Q/DQ nodes in INT8."""

    def __init__(
        self,
        model: bytes,
        *,
        threads: int | None = None,
        precision: str = "fp32",
        compiled: CompiledGraph | None = None,
        optimize: bool = True,
        parallel: int = 1,
    ) -> None:
        """Load `model`, or what was made of it before.

        Args:
            compiled: from `compile_graph`.
            optimize: False runs the graph as it is written: what its Q and DQ nodes say, layer by layer in floating point.
            parallel: runs at once: each in the thread that calls it, with `threads` - 1 others for each, which all share.
        Raises:
            BackendUnavailable: the precision or the provider is not there; never a silent change of either.
            BundleError: ONNX Runtime refuses the graph.
        """
        _check_precision(precision)
        workers = default_threads() if threads is None else threads
        pool = 1 + parallel * (workers - 1)
        session, loading = (None, "the graph") if compiled is None else _import(compiled, pool)
        if session is None:
            options = session_options(pool, model)
            if not optimize:
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            session = _load(model, options)
        try:
            self.inputs: Mapping[str, TensorSpec] = {entry.name: tensor_spec(entry) for entry in session.get_inputs()}
            self.outputs: Mapping[str, TensorSpec] = {entry.name: tensor_spec(entry) for entry in session.get_outputs()}
        except Exception as exc:  # names that are not text, types that are not known
            raise BundleError(f"onnxruntime {ort.__version__} cannot load this graph: {first_line(exc)}") from exc
        if _PROVIDER not in session.get_providers():
            raise BackendUnavailable(f"onnxruntime did not use {_PROVIDER} but {session.get_providers()}.")
        never_free_in_children(session)
        self.info = BackendInfo("onnxruntime", ort.__version__, "cpu", precision, workers, loading)
        self._session: Any = session
        self._names = list(self.outputs)
        self._pool = BufferPool()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Backend.run`."""
        session = self._session
        if session is None:
            raise EngineClosed("This onnxruntime session is closed. Open the engine again.")
        try:
            results = session.run(self._names, dict(feeds))
        except Exception as exc:
            raise InferenceError(f"onnxruntime {ort.__version__} failed: {first_line(exc)}") from exc
        # The runtime owns them: freed in a forked child, they wait for ever where a thread of the parent was running.
        return {name: self._pool.copy(result) for name, result in zip(self._names, results, strict=True)}

    def close(self) -> None:
        """See `Backend.close`."""
        self._session = None


def _check_precision(precision: str) -> None:
    if precision not in ("fp32", "int8"):
        raise BackendUnavailable(
            f"onnxruntime computes fp32 and int8 on a CPU, not {precision}. "
            "Use backend openvino, or build another engine with: edge-mtl build-engine BUNDLE --int8"
        )
    if _PROVIDER not in ort.get_available_providers():
        raise BackendUnavailable(f"This onnxruntime has no {_PROVIDER}; found {ort.get_available_providers()}.")


def _load(model: bytes, options: ort.SessionOptions) -> Any:
    try:
        return ort.InferenceSession(model, options, providers=[_PROVIDER], enable_fallback=0)
    except Exception as exc:
        raise BundleError(f"onnxruntime {ort.__version__} cannot load this graph: {first_line(exc)}") from exc


def _import(compiled: CompiledGraph, threads: int) -> tuple[Any, str]:
    """A session of what `compile_graph` made, None if it does not fit, and how `BackendInfo.loading` calls that."""
    if compiled.origin != _origin():
        return None, f"the graph: the compiled code is of {compiled.origin}, this is {_origin()}"
    options = session_options(threads)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.load_model_format", "ORT")
    try:
        return _load(compiled.payload, options), "compiled code"
    except BundleError as exc:
        return None, f"the graph: {exc}"


def _origin() -> str:
    exact = ", exact byte products" if products_saturate() else ""
    return f"onnxruntime {ort.__version__} ({ort.get_build_info()}), all optimisations{exact}"


def session_options(threads: int, model: bytes | None = None) -> ort.SessionOptions:
    """How graphs run here; `model`, when given, exactly: see `edge_mtl.backends.int8_saturation`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    # Between runs the cores belong to whoever prepares and finishes frames.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = _FATAL_ONLY
    if model is not None:
        keep_exact(options, model)
    return options


def tensor_spec(entry: ort.NodeArg) -> TensorSpec:
    if entry.type not in _DTYPES or not all(isinstance(side, int) for side in entry.shape):
        raise ValueError(f"{entry.name} should have a fixed shape and a known type; found {entry.type} {entry.shape}")
    return TensorSpec(tuple(entry.shape), np.dtype(_DTYPES[entry.type]))


def first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else type(exc).__name__
