"""What a frame costs when only some tasks are asked for, and what each task costs of a whole frame, interleaved.

    python benchmarks/asked_tasks.py edge_mtl/bundles/rooms-b0 --precision int8 --out benchmarks/results/NAME.json

All calls take the same frame, in one run, each directly after an untimed one of its own:

- `all tasks`: `Engine.predict` with everything, the baseline.
- `all, unread`: the same with `finish="lazily"`, and nothing read: preparing and the whole network.
- `predict T`: `Engine.predict(tasks=(T,))`: the whole network, one result finished.
- `engine of T`: `Engine(tasks=(T,)).predict`: a graph cut to the task.
- `engine without T, T`: with `--without T,T`, a graph cut to all the others: what those tasks add to a whole frame.

The engines stay open side by side, with their worker threads asleep between calls. A share is the time of a row in that of
all tasks, the median over rounds. From the medians follows what each task costs: its finishing is `predict T` less `all,
unread`; its head is `engine of T` less that and less what all tasks have in common, preparing and the backbone. That in turn is
half of what the engines of one task take together beyond the whole frame, where there are three; it is exact as far as heads
add up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from arguments import size
from built_copy import built_copy
from conditions import Conditions

from edge_mtl import Engine
from edge_mtl.bench.latency import LatencyReport, measure_interleaved
from edge_mtl.bundle import Bundle
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.files import write_atomic

ALL, UNREAD = "all tasks", "all, unread"
GOAL = 0.93
"""The most that one task may take of a whole frame of three, on two cores."""


def measure(
    bundle: Bundle,
    *,
    backend: str,
    precision: str,
    threads: int,
    rounds: int,
    frame_size: tuple[int, int],
    without: tuple[str, ...] = (),
) -> tuple[str, LatencyReport]:
    """Build the engine in a temporary copy of the bundle, unless it is FP32, and time all rows; also what ran."""
    frame = cv2.resize(next(evaluation_frames(bundle)).frame, frame_size[::-1], interpolation=cv2.INTER_LINEAR)
    with contextlib.ExitStack() as stack:
        precisions = () if precision == "fp32" else (precision,)
        copy = built_copy(stack, bundle, precisions, threads=threads, backend=backend)
        whole = stack.enter_context(Engine(copy, backend=backend, precision=precision, threads=threads))
        info = whole.info
        calls: dict[str, Callable[[], object]] = {
            ALL: partial(whole.predict, frame),
            UNREAD: partial(whole.predict, frame, finish="lazily"),
        }
        for task in info.tasks:
            calls[f"predict {task}"] = partial(whole.predict, frame, tasks=(task,))
        parts: dict[str, tuple[str, ...]] = {f"engine of {task}": (task,) for task in info.tasks}
        if without:
            parts[row_without(without)] = tuple(task for task in info.tasks if task not in without)
        for name, tasks in parts.items():
            part = Engine(copy, backend=info.backend, precision=info.precision, threads=threads, tasks=tasks)
            some = stack.enter_context(part)
            calls[name] = partial(some.predict, frame)
        return f"{info.precision} on {info.backend} {info.runtime_version}", measure_interleaved(
            calls, baseline=ALL, rounds=rounds
        )


def row_without(tasks: tuple[str, ...]) -> str:
    """The name of the row of all tasks but these."""
    return f"engine without {', '.join(tasks)}"


def costs(report: LatencyReport, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Milliseconds of each task's finishing and head, and of what all have in common; see the top of this file."""
    whole, unread = report[ALL].median_ms, report[UNREAD].median_ms
    engines = {task: report[f"engine of {task}"].median_ms for task in tasks}
    finishing = {task: report[f"predict {task}"].median_ms - unread for task in tasks}
    found: dict[str, Any] = {"finishing_ms": finishing}
    if len(tasks) > 1:
        common = (sum(engines.values()) - whole) / (len(tasks) - 1)
        found["common_ms"] = common
        found["head_ms"] = {task: engines[task] - common - finishing[task] for task in tasks}
    return found


def shares(report: LatencyReport) -> dict[str, dict[str, Any]]:
    """By row, its time in that of all tasks, with the 95 % interval of the median."""
    return {
        row.name: {"share": 1.0 / row.ratio, "sure": [1.0 / row.ratio_sure[1], 1.0 / row.ratio_sure[0]]} for row in report.rows
    }


def main() -> int:
    """Parse, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="int8", choices=("fp32", "bf16", "int8"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--frame", type=size, metavar="HxW", default=(480, 640), help="size of the frames (480x640)")
    parser.add_argument(
        "--without", type=lambda text: tuple(text.split(",")), default=(), metavar="TASK,...", help="what do these add?"
    )
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the figures there")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    try:
        bundle = Bundle.open(asked.bundle)
        if not set(asked.without) < set(bundle.tasks):
            parser.error(f"--without takes some of the tasks {', '.join(bundle.tasks)}, found {', '.join(asked.without)}")
        engine, report = measure(
            bundle,
            backend=asked.backend,
            precision=asked.precision,
            threads=asked.threads,
            rounds=asked.rounds,
            frame_size=asked.frame,
            without=asked.without,
        )
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    found, each = shares(report), costs(report, bundle.tasks)
    largest = max(found[f"engine of {task}"]["share"] for task in bundle.tasks)
    print(f"{engine}, {asked.threads} threads, frames of {asked.frame[0]}x{asked.frame[1]}")
    for row in report.rows:
        low, high = found[row.name]["sure"]
        print(f"  {row.name:24} median {row.median_ms:8.2f} ms  share {found[row.name]['share']:.3f} ({low:.3f} to {high:.3f})")
    for task in bundle.tasks:
        head = f", head {each['head_ms'][task]:.2f} ms" if "head_ms" in each else ""
        print(f"  {task}: finishing {each['finishing_ms'][task]:.2f} ms{head}")
    print(f"  the largest share of an engine of one task is {largest:.3f}; at most {GOAL} is the goal")
    added: dict[str, Any] = {}
    if asked.without:
        row = next(row for row in report.rows if row.name == row_without(asked.without))
        added = {"tasks": list(asked.without), "times": row.ratio, "sure": list(row.ratio_sure)}
        low, high = row.ratio_sure
        print(f"  {', '.join(asked.without)} make a whole frame take {row.ratio:.3f} times as long ({low:.3f} to {high:.3f})")
    if report.disturbed:
        print(f"  this run shows nothing: {report.disturbed}")
    if asked.out is not None:
        content = {
            "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
            **conditions.describe(),
            "engine": engine,
            "frame": list(asked.frame),
            "rounds": asked.rounds,
            "baseline": report.baseline,
            "disturbed": report.disturbed,
            "goal": {"most_share_of_an_engine_of_one_task": GOAL, "found": largest},
            "shares": found,
            "costs": each,
            "added": added,
            "rows": [asdict(row) for row in report.rows],
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
