"""A runtime from outside the package: the evaluator of the package onnx, which is written in NumPy."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from edge_mtl.backends import Backend, BackendInfo, OpenOptions, TensorSpec
from edge_mtl.backends.profiling import LayerProfile, LayerTime
from edge_mtl.errors import BackendUnavailable, BundleError, EngineClosed, InferenceError


def open_graph(model: bytes, options: OpenOptions) -> Backend:
    return ToyBackend(model, options)


class ToyBackend:
    def __init__(self, model: bytes, options: OpenOptions) -> None:
        if options.precision not in ("fp32", "int8"):
            raise BackendUnavailable(f"toy computes fp32 and int8, not {options.precision}.")
        try:
            proto = onnx.load_model_from_string(model)
            self._evaluator: ReferenceEvaluator | None = ReferenceEvaluator(proto)
        except Exception as exc:
            raise BundleError(f"toy cannot load this graph: {exc}") from exc
        self.inputs: Mapping[str, TensorSpec] = {value.name: _spec(value) for value in proto.graph.input}
        self.outputs: Mapping[str, TensorSpec] = {value.name: _spec(value) for value in proto.graph.output}
        self.info = BackendInfo("toy", onnx.__version__, "cpu", options.precision, options.threads or 1)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        evaluator = self._evaluator
        if evaluator is None:
            raise EngineClosed("This toy graph is closed. Open the engine again.")
        try:
            found = evaluator.run(list(self.outputs), dict(feeds))
        except Exception as exc:
            raise InferenceError(f"toy failed: {exc}") from exc
        return dict(zip(self.outputs, found, strict=True))

    def close(self) -> None:
        self._evaluator = None


def profile(model: bytes, *, precision: str, threads: int | None, runs: int, device: int) -> LayerProfile:
    backend = ToyBackend(model, OpenOptions(precision, threads, device))
    feeds = {name: np.zeros(spec.shape, spec.dtype) for name, spec in backend.inputs.items()}
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        backend.run(feeds)
        seconds.append(time.perf_counter() - began)
    layer = LayerTime("all", "graph", tuple(backend.outputs), tuple(seconds))
    return LayerProfile("toy", onnx.__version__, precision, 1, (layer,), tuple(seconds))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    return TensorSpec(
        tuple(side.dim_value for side in kind.shape.dim), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    )
