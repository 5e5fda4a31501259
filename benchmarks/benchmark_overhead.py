"""What the benchmark itself costs: a backend of known delay, timed as `edge-mtl benchmark` times engines.

    python benchmarks/benchmark_overhead.py --delays 5,10,20,40 --rounds 200 --out benchmarks/results/NAME.json

The backend does nothing but look at the clock until its delay is over, and notes by itself how long each call took. The
overhead is what the benchmark says beyond that: its inference time against the backend's own note, and its time of the
whole call against the sum of the stages. Under 1 % is expected; the exit code is 1 where it is more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Conditions

from edge_mtl.backends import BackendInfo, TensorSpec
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.report import distribution
from edge_mtl.bench.targets import GraphTarget
from edge_mtl.bundle import Bundle
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import write_atomic
from edge_mtl.tasks import graph_outputs

MOST = 0.01
"""Share of the delay that the benchmark may add."""


class KnownDelay:
    """A backend that takes `delay_s` for a run and keeps what it really took."""

    def __init__(self, bundle: Bundle, delay_s: float) -> None:
        height, width = bundle.manifest.input.height, bundle.manifest.input.width
        self.info = BackendInfo("known delay", "1", "cpu", "fp32", 1)
        self.inputs: Mapping[str, TensorSpec] = {"image": TensorSpec((1, 3, height, width), np.dtype("float32"))}
        self.outputs = {
            name: TensorSpec(shape, np.dtype("float32"))
            for name, shape in graph_outputs(bundle.manifest.tasks, (height, width), "host").items()
        }
        self._answers = {name: np.ones(spec.shape, spec.dtype) for name, spec in self.outputs.items()}
        self._delay_s = delay_s
        self.took_s: list[float] = []

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Wait, note, answer."""
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < self._delay_s:
            pass
        self.took_s.append(now - began)
        return self._answers

    def close(self) -> None:
        """Nothing to free."""


def measure(bundle: Bundle, delay_s: float, rounds: int) -> dict[str, float]:
    """Medians in milliseconds, and overhead as a share of the delay."""
    height, width = bundle.manifest.input.height, bundle.manifest.input.width
    backend = KnownDelay(bundle, delay_s)
    subject = GraphTarget("known delay", bundle, backend, np.full((height, width, 3), 128, np.uint8), load_s=0.0)
    turns = run_interleaved({"known delay": subject}, rounds=rounds)["known delay"]
    taken = np.array(backend.took_s[-2 * rounds :][1::2])  # every timed call follows one that is not
    said = np.array([timing.infer for timing in turns.answers])
    stages = np.array([timing.prepare + timing.infer + timing.postprocess for timing in turns.answers])
    whole = np.array(turns.seconds)
    return {
        "delay_ms": delay_s * 1e3,
        "took_ms": float(np.median(taken)) * 1e3,
        "infer_ms": float(np.median(said)) * 1e3,
        "frame_p50_ms": distribution(turns.seconds).p50_ms,
        "overhead_of_infer": float(np.median((said - taken) / taken)),
        "overhead_of_frame": float(np.median((whole - stages) / whole)),
    }


def main() -> int:
    """Parse, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", help="whose frames are prepared and finished; default: the demo's")
    parser.add_argument("--delays", default="5,10,20,40", metavar="MS", help="with commas between")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the figures there")
    asked = parser.parse_args()
    conditions = Conditions(threads=1)
    try:
        delays = [float(text) / 1e3 for text in asked.delays.split(",")]
        bundle = Bundle.open(asked.bundle) if asked.bundle is not None else _demo()
        rows = [measure(bundle, delay, asked.rounds) for delay in delays]
    except (EdgeMtlError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    for row in rows:
        print(
            f"{row['delay_ms']:6.1f} ms: backend took {row['took_ms']:.4f}, benchmark says {row['infer_ms']:.4f} "
            f"({row['overhead_of_infer']:+.4%}); frame {row['frame_p50_ms']:.4f}, {row['overhead_of_frame']:+.4%} beyond it"
        )
    if asked.out is not None:
        content: dict[str, Any] = {**conditions.describe(), "rounds": asked.rounds, "most": MOST, "rows": rows}
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return int(any(abs(row[name]) > MOST for row in rows for name in ("overhead_of_infer", "overhead_of_frame")))


def _demo() -> Bundle:
    from edge_mtl.bundle import DEMO_BUNDLE

    return Bundle.open(DEMO_BUNDLE)


if __name__ == "__main__":
    sys.exit(main())
