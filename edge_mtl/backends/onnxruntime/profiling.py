"""Layer times of ONNX Runtime: a session with profiling switched on writes a trace, which is read back here.

The trace is in Chrome's format: events with a name, a start and a duration in microseconds. Knows nothing about tasks.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.backends.onnxruntime.backend import OnnxRuntimeBackend, ort, session_options
from edge_mtl.backends.profiling import LayerProfile, LayerTime
from edge_mtl.backends.threads import default_threads
from edge_mtl.errors import BundleError, InferenceError

__all__ = ["profile", "read_trace"]

_WARM_UP = 3
_GREY = 128
_LAYER = "_kernel_time"


def profile(model: bytes, *, precision: str, threads: int | None, runs: int, device: int) -> LayerProfile:
    """See `edge_mtl.backends.profiling.profile_graph`."""
    del device
    workers = default_threads() if threads is None else threads
    plain = OnnxRuntimeBackend(model, threads=workers, precision=precision)  # refuses what it cannot do, in our words
    feeds = {name: np.full(spec.shape, _GREY, spec.dtype) for name, spec in plain.inputs.items()}
    plain.close()
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(workers, model)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        except Exception as exc:
            raise BundleError(f"onnxruntime {ort.__version__} cannot load this graph: {exc}") from exc
        try:
            for _ in range(_WARM_UP + runs):
                began = time.perf_counter()
                session.run(None, feeds)
                seconds.append(time.perf_counter() - began)
        except Exception as exc:
            raise InferenceError(f"onnxruntime {ort.__version__} failed: {exc}") from exc
        trace = json.loads(Path(session.end_profiling()).read_bytes())
    layers = read_trace(trace, skip=_WARM_UP)
    return LayerProfile("onnxruntime", ort.__version__, precision, workers, layers, tuple(seconds[_WARM_UP:]))


def read_trace(trace: list[dict[str, Any]], *, skip: int = 0) -> tuple[LayerTime, ...]:
    """The layers of a trace in the order they ran, without the first `skip` runs."""
    starts = sorted(event["ts"] for event in trace if event.get("cat") == "Session" and event.get("name") == "model_run")
    nodes = [event for event in trace if event.get("cat") == "Node" and event.get("name", "").endswith(_LAYER)]
    found: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for event in sorted(nodes, key=lambda event: event["ts"]):
        run = int(np.searchsorted(starts, event["ts"], side="right")) - 1 - skip
        arguments = event.get("args", {})
        name = event["name"].removesuffix(_LAYER) or f"{arguments.get('op_name', 'layer')} {arguments.get('node_index', '')}"
        if run >= 0:
            times = found.setdefault(name, [0.0] * (len(starts) - skip))
            times[run] += event["dur"] / 1e6
            kinds[name] = str(arguments.get("op_name", ""))
    return tuple(LayerTime(name, kinds[name], (name,), tuple(times)) for name, times in found.items())
