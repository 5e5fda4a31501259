"""Layer times of TensorRT: its profiler tells the time of every layer after each run. Knows no tasks.

Runs are queued call by call: a CUDA graph hides its layers from the profiler.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edge_mtl.backends.profiling import LayerProfile, LayerTime
from edge_mtl.backends.tensorrt.backend import TensorRtBackend
from edge_mtl.backends.tensorrt.opening import open_plan

__all__ = ["collector", "profile", "profile_backend"]

_WARM_UP = 3
_GREY = 128


def profile(model: bytes, *, precision: str, threads: int | None, runs: int, device: int) -> LayerProfile:
    """See `edge_mtl.backends.profiling.profile_graph`; `model` is a plan."""
    del threads
    backend = open_plan(model, precision=precision, device=device, graphs=False)
    try:
        return profile_backend(backend, runs=runs)
    finally:
        backend.close()


def profile_backend(backend: TensorRtBackend, *, runs: int) -> LayerProfile:
    """Profile a plan that is open and records no CUDA graphs."""
    feeds = {name: np.full(spec.shape, _GREY, spec.dtype) for name, spec in backend.inputs.items()}
    for _ in range(_WARM_UP):
        backend.run(feeds)
    heard: list[list[tuple[str, float]]] = []
    seconds = []
    with backend.watched_by(lambda library: collector(library, heard)):
        for _ in range(runs):
            heard.append([])
            began = time.perf_counter()
            backend.run(feeds)
            seconds.append(time.perf_counter() - began)
    times: dict[str, list[float]] = {}
    for number, run in enumerate(heard):
        for name, milliseconds in run:
            times.setdefault(name, [0.0] * runs)[number] += milliseconds / 1e3
    info = backend.info
    layers = tuple(LayerTime(name, _kind(name), _sources(name), tuple(spent)) for name, spent in times.items())
    return LayerProfile(info.name, info.version, info.precision, info.threads, layers, tuple(seconds))


def collector(library: Any, heard: list[list[tuple[str, float]]]) -> Any:
    """A profiler of `library`, which appends (layer, milliseconds) to the last list in `heard`."""

    class Collector(library.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            heard[-1].append((layer_name, float(ms)))

    return Collector()


def _sources(name: str) -> tuple[str, ...]:
    """Nodes that were fused into a layer: TensorRT joins their names with " + ", and wraps some in braces or prefixes."""
    words = name.replace("{", " ").replace("}", " ").replace(",", " ").replace(" + ", " ").split()
    return (*(word.rpartition(":")[2] for word in words), name)


def _kind(name: str) -> str:
    if name.startswith("__my") or "ForeignNode" in name:
        return "fused region"
    return "reformat" if name.startswith("Reformatting") else "layer"
