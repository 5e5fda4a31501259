"""Layer times of OpenVINO: its performance counters, and the execution graph for what layers were made of. Knows no tasks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edge_mtl.backends.openvino.backend import OpenVinoBackend, _core, _floats, _options, ov
from edge_mtl.backends.profiling import LayerProfile, LayerTime
from edge_mtl.backends.threads import default_threads
from edge_mtl.errors import BundleError, InferenceError

__all__ = ["profile"]

_WARM_UP = 3
_GREY = 128


def profile(model: bytes, *, precision: str, threads: int | None, runs: int, device: int) -> LayerProfile:
    """See `edge_mtl.backends.profiling.profile_graph`."""
    del device
    workers = default_threads() if threads is None else threads
    plain = OpenVinoBackend(model, threads=workers, precision=precision)  # refuses what it cannot do, in our words
    feeds = {name: np.full(spec.shape, _GREY, spec.dtype) for name, spec in plain.inputs.items()}
    plain.close()
    try:
        options: dict[str, Any] = {**_options(_floats(precision), workers), "PERF_COUNT": True}
        compiled = _core().compile_model(_core().read_model(model, b""), "CPU", options)
    except Exception as exc:
        raise BundleError(f"openvino {ov.__version__} cannot load this graph: {exc}") from exc
    sources = _sources(compiled.get_runtime_model())
    times: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    run_s = []
    try:
        request = compiled.create_infer_request()
        for name, array in feeds.items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        for number in range(_WARM_UP + runs):
            began = time.perf_counter()
            request.infer()
            seconds = time.perf_counter() - began
            if number < _WARM_UP:
                continue
            run_s.append(seconds)
            for entry in request.get_profiling_info():
                spent = entry.real_time.total_seconds()
                if entry.status == ov.ProfilingInfo.Status.EXECUTED and spent > 0:
                    times.setdefault(entry.node_name, [0.0] * runs)[number - _WARM_UP] += spent
                    kinds[entry.node_name] = entry.node_type
    except Exception as exc:
        raise InferenceError(f"openvino {ov.__version__} failed: {exc}") from exc
    layers = tuple(LayerTime(name, kinds[name], (*sources.get(name, ()), name), tuple(spent)) for name, spent in times.items())
    return LayerProfile("openvino", ov.__version__.split("-")[0], precision, workers, layers, tuple(run_s))


def _sources(graph: Any) -> dict[str, tuple[str, ...]]:
    """By name of the executed layer, the graph's nodes that were fused into it."""
    found = {}
    for node in graph.get_ordered_ops():
        facts = node.get_rt_info()
        names = str(facts["originalLayersNames"].astype(str)) if "originalLayersNames" in facts else ""
        found[node.get_friendly_name()] = tuple(name for name in names.split(",") if name)
    return found
