"""Where a frame's time goes outside the layers of the network, and what `stream` gains over `predict`.

    python benchmarks/frame_parts.py edge_mtl/bundles/indoor-lite0 --out benchmarks/results/NAME.json

For every engine that can be built here, in a temporary copy of the bundle:

- the parts of `Engine.predict`, medians over frames: preparing, the runtime, finishing, by task as well;
- the layers, by the runtime's own profiler, and what of the runtime's time they leave: its overhead;
- outside the layers: preparing, overhead and finishing together. Where a profiler makes the layers slower than the runtime is
  without it, the overhead is not known and counts as 0, which is said;
- recordings: milliseconds a frame by `predict` in a loop, by `stream`, and by `stream` with as many frames at once as there are
  cores, interleaved.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from arguments import size
from built_copy import built_copy
from conditions import Conditions

from edge_mtl import Engine
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.profile import profile_graph
from edge_mtl.bench.statistics import ratio_interval
from edge_mtl.bundle import Bundle
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.files import write_atomic

PRECISIONS = ("fp32", "int8")
_PROFILED = 20

Array = np.ndarray


def parts(engine: Engine, frame: Array, layers_ms: float, *, rounds: int) -> dict[str, Any]:
    """Medians in milliseconds of the parts of one frame."""
    for _ in range(10):
        engine.predict(frame)
    timings = [engine.predict(frame).timing for _ in range(rounds)]
    found = {
        "prepare_ms": 1e3 * median(one.prepare for one in timings),
        "runtime_ms": 1e3 * median(one.infer for one in timings),
        "finish_ms": 1e3 * median(one.postprocess for one in timings),
        "frame_ms": 1e3 * median(one.total for one in timings),
    }
    whole = found["finish_ms"]
    tasks = {}
    for task in engine.info.tasks:
        engine.predict(frame, tasks=(task,))
        tasks[task] = 1e3 * median(engine.predict(frame, tasks=(task,)).timing.postprocess for _ in range(rounds // 2))
    overhead = found["runtime_ms"] - layers_ms
    outside = found["prepare_ms"] + max(overhead, 0.0) + whole
    return {
        **found,
        "finish_by_task_ms": tasks,
        "layers_ms": layers_ms,
        "overhead_ms": overhead if overhead > 0 else None,
        "outside_ms": outside,
    }


def streams(engine: Engine, at_once: Engine, frames: list[Array], *, rounds: int) -> dict[str, Any]:
    """Milliseconds a frame of a recording, each way, and how many times faster than `predict` in a loop (95 %)."""

    def predicted() -> None:
        for frame in frames:
            engine.predict(frame)

    def streamed(by: Engine) -> Callable[[], None]:
        def call() -> None:
            for _ in by.stream(frames):
                pass

        return call

    ways = {"predict": predicted, "stream": streamed(engine), "stream, frames at once": streamed(at_once)}
    times = {name: turn.seconds for name, turn in run_interleaved(ways, rounds=rounds).items()}
    found: dict[str, Any] = {"frames_at_once": at_once.info.parallel_frames}
    for name, seconds in times.items():
        ratio = ratio_interval(times["predict"], seconds)
        ms = 1e3 * median(seconds) / len(frames)
        found[name] = {"ms_per_frame": ms, "times_faster": ratio.value, "sure": [ratio.low, ratio.high]}
    return found


def measure(bundle: Bundle, *, threads: int, rounds: int, frame_size: tuple[int, int], recording: int) -> list[dict[str, Any]]:
    """One row per engine."""
    frames = [
        cv2.resize(one.frame, frame_size[::-1], interpolation=cv2.INTER_LINEAR)
        for one, _ in zip(evaluation_frames(bundle), range(recording), strict=False)
    ]
    rows = []
    with contextlib.ExitStack() as stack:
        copy = built_copy(stack, bundle, PRECISIONS, threads=threads)
        store = EngineStore(copy)
        for record in store.list():
            named: dict[str, Any] = {"backend": record.backend, "precision": record.precision, "self_test": "off"}
            profiled = profile_graph(
                record.backend, store.load(record), precision=record.precision, threads=threads, runs=_PROFILED
            )
            layers_ms = 1e3 * sum(median(layer.seconds) for layer in profiled.layers)
            with Engine(copy, threads=threads, **named) as engine, Engine(copy, parallel_frames=threads, **named) as at_once:
                time.sleep(0.1)  # what another runtime left running
                row = parts(engine, frames[0], layers_ms, rounds=rounds)
                recorded = streams(engine, at_once, frames, rounds=max(3, rounds // 6))
            rows.append({"engine": f"{record.precision} on {record.backend}", **row, "recording": recorded})
    return sorted(rows, key=lambda row: -row["frame_ms"])


def show(row: dict[str, Any]) -> None:
    """Three lines a row."""
    overhead = "not known" if row["overhead_ms"] is None else f"{row['overhead_ms']:.2f}"
    print(
        f"{row['engine']}: frame {row['frame_ms']:.2f} ms; prepare {row['prepare_ms']:.2f}, layers {row['layers_ms']:.2f}, "
        f"runtime beyond them {overhead}, finish {row['finish_ms']:.2f}; outside the layers {row['outside_ms']:.2f}"
    )
    print("  finish by task: " + ", ".join(f"{task} {ms:.2f}" for task, ms in row["finish_by_task_ms"].items()))
    ways = {name: each for name, each in row["recording"].items() if isinstance(each, dict)}
    print("  recording: " + "; ".join(f"{name} {each['ms_per_frame']:.2f} ms" for name, each in ways.items()))


def main() -> int:
    """Parse, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--frame", type=size, metavar="HxW", default=(288, 384), help="size of the frames (288x384)")
    parser.add_argument("--recording", type=int, default=24, metavar="N", help="frames of the recording")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the figures there")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    try:
        bundle = Bundle.open(asked.bundle)
        rows = measure(bundle, threads=asked.threads, rounds=asked.rounds, frame_size=asked.frame, recording=asked.recording)
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for row in rows:
        show(row)
    if asked.out is not None:
        content = {
            "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
            **conditions.describe(),
            "frame": list(asked.frame),
            "rounds": asked.rounds,
            "rows": rows,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
