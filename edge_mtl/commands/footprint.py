"""How long an engine takes to its first prediction and how much memory it takes, in a process of its own.

Run as a module it measures itself: `python -m edge_mtl.commands.footprint '{"bundle": ..., ...}'`. A process that has
loaded several engines can tell neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Footprint", "measure"]

_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process needs for its first predictions.

    Attributes:
        start_s: seconds from the start of the interpreter to the first prediction.
        rss_bytes: largest resident memory of the process.
    """

    start_s: float
    rss_bytes: int


def measure(bundle: Path, *, backend: str, precision: str, threads: int | None, graph: str | None = None) -> Footprint | None:
    """Measure one engine; None where that fails (this is a remark in a table, never a reason to stop).

    Args:
        graph: model.onnx or the key of a built engine, to run without an Engine.
    """
    request = json.dumps(
        {"bundle": str(bundle), "backend": backend, "precision": precision, "threads": threads, "graph": graph}
    )
    command = [sys.executable, "-m", "edge_mtl.commands.footprint", request]
    root = str(Path(__file__).resolve().parents[2])  # this very package, wherever the command was started
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    started = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603 - this very interpreter, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            env=environment,
            check=True,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
        return Footprint(float(answer["ready"]) - started, int(answer["rss_bytes"]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError):
        return None


def _predict_once(request: dict[str, object]) -> float:
    """Load, predict two frames, and return when the first was done (monotonic seconds, comparable across processes)."""
    import numpy as np

    from edge_mtl.bundle import PLAIN_MODEL, Bundle

    bundle = Bundle.open(str(request["bundle"]))
    frame = np.full((bundle.manifest.input.height, bundle.manifest.input.width, 3), 128, np.uint8)
    threads = request["threads"] if isinstance(request["threads"], int) else None
    graph = request["graph"]
    if graph is not None:
        from edge_mtl.backends import open_backend
        from edge_mtl.build.frame_path import FramePath
        from edge_mtl.build.store.engines import EngineStore

        compiled = None
        if graph == PLAIN_MODEL:
            model = bundle.read(PLAIN_MODEL)
        else:
            store = EngineStore(bundle)
            record = next(record for record in store.list() if record.key == graph)
            model, compiled = store.load(record), store.compiled.load(record)[0]
        backend, precision = str(request["backend"]), str(request["precision"])
        opened = open_backend(backend, model, threads=threads, precision=precision, compiled=compiled)
        path = FramePath(opened, bundle.manifest)
        path(frame)
        ready = time.monotonic()
        path(frame)
        return ready
    from edge_mtl.engine import Engine

    with Engine(
        bundle, backend=str(request["backend"]), precision=str(request["precision"]), threads=threads, self_test="off"
    ) as engine:
        engine.predict(frame)
        ready = time.monotonic()
        engine.predict(frame)
    return ready


def _peak_rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM")


if __name__ == "__main__":
    # Whatever runtimes print, the answer is the last line of standard output.
    ready = _predict_once(json.loads(sys.argv[1]))
    print(json.dumps({"ready": ready, "rss_bytes": _peak_rss_bytes()}), flush=True)
    os._exit(0)  # some runtimes are slow to take down their threads
