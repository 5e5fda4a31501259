"""How much memory one process holds once some graphs are loaded and have run, above what it held when it was empty.

    python benchmarks/resident_memory.py '{"graphs": ["a.onnx"], "backend": "onnxruntime", "precision": "fp32", "threads": 1}'

`resident_memory` starts such a process: one that has loaded other things before cannot tell. Knows graphs as files; knows
nothing about tasks.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

__all__ = ["ResidentMemory", "resident_memory"]

_TIMEOUT_S = 600.0
_RUNS = 3


@dataclass(frozen=True, slots=True)
class ResidentMemory:
    """Bytes of resident memory above an empty process, which is a Python interpreter that has imported nothing.

    Attributes:
        runtime: with the runtime imported and no graph loaded.
        loaded: with all graphs loaded, after each has run, once the C library has given back what was freed: what loading
            left behind in its arenas belongs to no engine, and differs from run to run.
        peak: the most there ever was, loading included.
    """

    runtime: int
    loaded: int
    peak: int

    @property
    def graphs(self) -> int:
        """What the graphs added to a process that has the runtime."""
        return self.loaded - self.runtime


def resident_memory(graphs: Sequence[Path], *, backend: str, precision: str, threads: int, repeats: int = 3) -> ResidentMemory:
    """Measure in `repeats` fresh processes; medians.

    Raises:
        RuntimeError: such a process failed; its last words are in the message.
    """
    request = {"graphs": [str(path) for path in graphs], "backend": backend, "precision": precision, "threads": threads}
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    found = []
    for _ in range(repeats):
        command = [sys.executable, str(Path(__file__).resolve()), json.dumps(request)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment, check=False)
        if done.returncode != 0 or not done.stdout.strip():
            raise RuntimeError(f"memory of {backend} {precision}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return ResidentMemory(*(int(median(one[name] for one in found)) for name in ("runtime", "loaded", "peak")))


def _measure_here(request: dict[str, object], empty: int) -> dict[str, int]:
    import importlib

    import numpy as np
    from kept_code import compiled_file

    from edge_mtl.backends import CompiledGraph, open_backend, spec_of

    importlib.import_module(spec_of(str(request["backend"])).module)
    runtime = _status("VmRSS")
    opened = []
    for path in map(Path, request["graphs"]):  # type: ignore[call-overload]
        code = compiled_file(path, str(request["backend"]), str(request["precision"]))
        compiled = None
        if code.is_file() and code.stat().st_size:
            compiled = CompiledGraph(code.read_bytes(), code.with_suffix(".origin").read_text())
        backend = open_backend(
            str(request["backend"]),
            path.read_bytes(),
            threads=int(str(request["threads"])),
            precision=str(request["precision"]),
            compiled=compiled,
        )
        del compiled
        opened.append(backend)
    for backend in opened:
        feeds = {name: np.full(spec.shape, 128, spec.dtype) for name, spec in backend.inputs.items()}
        for _ in range(_RUNS):
            backend.run(feeds)
    _give_back_what_is_free()
    return {"runtime": runtime - empty, "loaded": _status("VmRSS") - empty, "peak": _status("VmHWM") - empty}


def _give_back_what_is_free() -> None:
    """Where the C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(key: str) -> int:
    """Bytes of an entry of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"this system does not tell {key}")


if __name__ == "__main__":
    answer = _measure_here(json.loads(sys.argv[1]), _status("VmRSS"))
    print(json.dumps(answer), flush=True)
    os._exit(0)  # some runtimes are slow to take down their threads
