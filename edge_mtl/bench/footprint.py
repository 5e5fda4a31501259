"""How long an engine takes to its first prediction and how much memory it takes, in a process of its own.

Run as a module it measures itself: `python -m edge_mtl.bench.footprint '{"bundle": ..., ...}'`. A process that has
loaded several engines can tell neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from edge_mtl.bench.sensors.sources import Unavailable

if TYPE_CHECKING:
    from edge_mtl.bundle import Bundle

__all__ = ["Footprint", "measure", "typical"]

_TIMEOUT_S = 300.0
_NAME = "start-up and memory"
_MOST_WORDS = 300


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process needs for its first predictions.

    Attributes:
        start_s: seconds from the start of the interpreter to the first prediction.
        load_s: seconds from the call that opens the engine until it is ready, without a self-test.
        first_s: seconds of the first prediction.
        rss_bytes: largest resident memory of the process.
        empty_rss_bytes: its resident memory before it opened the engine.
        device_bytes: memory of the GPU; None where there is none or it does not tell.
    """

    start_s: float
    load_s: float
    first_s: float
    rss_bytes: int
    empty_rss_bytes: int
    device_bytes: int | None


def measure(
    bundle: Path, *, backend: str, precision: str, threads: int | None, graph: str | None = None
) -> Footprint | Unavailable:
    """Measure one engine, or say why that failed (this is a remark in a table, never a reason to stop).

    Args:
        graph: model.onnx or the key of a built engine, to run without an Engine.
    """
    request = json.dumps(
        {"bundle": str(bundle), "backend": backend, "precision": precision, "threads": threads, "graph": graph}
    )
    command = [sys.executable, "-m", "edge_mtl.bench.footprint", request]
    root = str(Path(__file__).resolve().parents[2])  # this very package, wherever the command was started
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    started = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603 - this very interpreter, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Unavailable(_NAME, f"its process did not end within {_TIMEOUT_S:g} s")
    except OSError as exc:
        return Unavailable(_NAME, f"its process did not start: {exc}")
    if done.returncode != 0:
        return Unavailable(_NAME, _last_words(done.stderr) or f"its process ended with {done.returncode}")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        device = answer["device_bytes"]
        return Footprint(
            start_s=float(answer["ready"]) - started,
            load_s=float(answer["load_s"]),
            first_s=float(answer["first_s"]),
            rss_bytes=int(answer["rss_bytes"]),
            empty_rss_bytes=int(answer["empty_rss_bytes"]),
            device_bytes=None if device is None else int(device),
        )
    except (ValueError, KeyError, IndexError, TypeError):
        return Unavailable(_NAME, "its process gave no answer")


def typical(found: Sequence[Footprint]) -> Footprint:
    """The medians of several processes, field by field."""
    known = [one.device_bytes for one in found if one.device_bytes is not None]
    return Footprint(
        start_s=median(one.start_s for one in found),
        load_s=median(one.load_s for one in found),
        first_s=median(one.first_s for one in found),
        rss_bytes=int(median(one.rss_bytes for one in found)),
        empty_rss_bytes=int(median(one.empty_rss_bytes for one in found)),
        device_bytes=int(median(known)) if known else None,
    )


def _last_words(stderr: bytes) -> str:
    """The last line that says something: of a traceback, the exception and its message."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:_MOST_WORDS] if lines else ""


def _predict_twice(request: dict[str, object]) -> dict[str, float | int | None]:
    """Load, predict two frames and answer with the fields of `Footprint`.

    `ready` is when the first frame was done, in monotonic seconds, which are comparable across processes.
    """
    import numpy as np

    from edge_mtl.bench.sensors.find import gpu
    from edge_mtl.bench.sensors.nvml import Nvml
    from edge_mtl.bundle import Bundle

    bundle = Bundle.open(str(request["bundle"]))
    frame = np.full((bundle.manifest.input.height, bundle.manifest.input.width, 3), 128, np.uint8)
    card = gpu()
    before = card.used_bytes() if isinstance(card, Nvml) else None
    empty = _resident_bytes("VmRSS")
    began = time.monotonic()
    predict = _open(request, bundle)
    loaded = time.monotonic()
    predict(frame)
    ready = time.monotonic()
    predict(frame)
    device = None
    if isinstance(card, Nvml):
        device, after = card.memory_bytes(), card.used_bytes()
        if device is None and before is not None and after is not None:  # in a container processes have other numbers
            device = max(0, after - before)
    return {
        "ready": ready,
        "load_s": loaded - began,
        "first_s": ready - loaded,
        "rss_bytes": _resident_bytes("VmHWM"),
        "empty_rss_bytes": empty,
        "device_bytes": device,
    }


def _open(request: dict[str, object], bundle: Bundle) -> Callable[[Any], object]:
    """What predicts one frame; it lives until the process ends."""
    threads = request["threads"] if isinstance(request["threads"], int) else None
    backend, precision, graph = str(request["backend"]), str(request["precision"]), request["graph"]
    if graph is None:
        from edge_mtl.engine import Engine

        return Engine(bundle, backend=backend, precision=precision, threads=threads, self_test="off").predict

    from edge_mtl.backends import open_backend
    from edge_mtl.bundle import REFERENCE_ONNX
    from edge_mtl.engine_store.engines import EngineStore
    from edge_mtl.inference_pipeline import InferencePipeline

    compiled = None
    if graph == REFERENCE_ONNX:
        model = bundle.read(REFERENCE_ONNX)
    else:
        store = EngineStore(bundle)
        record = next(record for record in store.list() if record.key == graph)
        model, compiled = store.load(record), store.compiled.load(record)[0]
    return InferencePipeline(
        open_backend(backend, model, threads=threads, precision=precision, compiled=compiled), bundle.manifest
    )


def _resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (largest so far) of this process; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field}")


if __name__ == "__main__":
    # Whatever runtimes print, the answer is the last line of standard output.
    print(json.dumps(_predict_twice(json.loads(sys.argv[1]))), flush=True)
    os._exit(0)  # some runtimes are slow to take down their threads
