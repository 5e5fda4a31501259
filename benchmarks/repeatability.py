"""Do repeated runs of one benchmark agree? `edge-mtl benchmark` several times, in fresh processes, and the spread of ratios.

    python benchmarks/repeatability.py edge_mtl/bundles/rooms-b0 --runs 5 --duration 60 --work out/repeat-b0 --out NAME

A fresh process has other memory and other threads, and the pause between runs lets the machine change its mind: what agrees
then agrees tomorrow. Every ratio is compared between all pairs of runs; at most --threshold (5 %) between the highest and the
lowest is expected, and the exit code is 1 where it is more. What `edge-mtl compare` says of each pair is counted beside it.
Runs are kept in --work: a run that was stopped continues, and more runs can be added. Another bundle or other arguments have
runs of their own there; other code has not, so the page says of which commit every run is. A run during which other guests of
the machine took too much of it is kept and named, but not counted: another is made in its place, up to as many again.
Writes NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from conditions import Conditions
from work_folder import WorkFolder

from edge_mtl.bench.compare import compare, read
from edge_mtl.bench.conditions import MOST_STOLEN, disturbed
from edge_mtl.bundle import find
from edge_mtl.cli.terminal import Terminal
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import write_atomic

LIMIT = 0.05
"""Aim: highest and lowest ratio of a row over all runs differ by at most this share."""
_KEPT = ("date", "commit", "command", "rounds", "throttling", "state")
"""Of every run's conditions, in the results."""


def spread(runs: Sequence[Mapping[str, Any]], *, threshold: float) -> list[dict[str, Any]]:
    """One row per engine that all runs have, the reference left out.

    Args:
        runs: JSON of `edge-mtl benchmark`, at least two.
        threshold: see `edge_mtl.bench.compare.compare`.
    Returns:
        Rows with "ratios" of every run, "spread" (highest / lowest - 1), the widest single "interval" (half, as a share), and
        how often two runs were judged "same", "unclear", "faster" or "slower".
    """
    names = [row["name"] for row in runs[0]["rows"] if row["name"] != runs[0]["baseline"]]
    by_run = [{row["name"]: row for row in run["rows"]} for run in runs]
    judged = {name: Counter[str]() for name in names}
    for before, after in combinations(runs, 2):
        for change in compare(before, after, threshold=threshold).changes:
            judged[change.name][change.judgement] += 1
    found = []
    for name in names:
        if not all(name in run for run in by_run):
            continue
        rows = [run[name] for run in by_run]
        ratios = [float(row["ratio"]) for row in rows]
        intervals = [(row["ratio_sure"][1] - row["ratio_sure"][0]) / 2 / row["ratio"] for row in rows]
        found.append(
            {
                "name": name,
                "ratios": ratios,
                "median": median(ratios),
                "spread": max(ratios) / min(ratios) - 1,
                "interval": max(intervals),
                "p50_spread": max(row["p50_ms"] for row in rows) / min(row["p50_ms"] for row in rows) - 1,
                "pairs": dict(judged[name]),
            }
        )
    return found


def decided_by(digest: str, *, threads: int, duration_s: float, pause_s: float, options: str) -> dict[str, Any]:
    """What a kept run depends on besides the code; `digest` is that of the bundle."""
    return {
        "bundle": digest,
        "threads": threads,
        "duration_s": duration_s,
        "pause_s": pause_s,
        "options": options.split(),
    }


def markdown(content: Mapping[str, Any]) -> str:
    """The same figures as a page."""
    counted = sum(run["counted"] for run in content["runs"])
    lines = [
        f"# Repeated runs: {content['bundle']}",
        "",
        f"{content['date']}, commit {content['commit']}, {content['device']['description']}; {content['threads']['runtime']} "
        f"threads, {counted} runs of {content['duration_s']:g} s in processes of their own "
        f"with pauses of {content['pause_s']:g} s; load {content['load']['before']} before, {content['load']['after']} after.",
        "",
        "| engine | times faster, each run | median | spread of ratios | widest interval | spread of times | pairs |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        ratios = ", ".join(f"{ratio:.2f}" for ratio in row["ratios"])
        pairs = ", ".join(f"{count} {name}" for name, count in sorted(row["pairs"].items()))
        lines.append(
            f"| {row['name']} | {ratios} | {row['median']:.2f} | {row['spread']:.1%} | ±{row['interval']:.1%} "
            f"| {row['p50_spread']:.1%} | {pairs} |"
        )
    worst = max(row["spread"] for row in content["rows"])
    lines += [
        "",
        f"Times faster: than {content['baseline']} of the same run. Spread: highest over lowest, less 1; at most "
        f"{content['limit']:.0%} was expected and {worst:.1%} was found. Widest interval: of one run, half of its 95 %. Pairs: "
        "what `edge-mtl compare` says of every two runs.",
        "",
        "| run | date | commit | rounds | what held the machine back |",
        "|---|---|---|---|---|",
    ]
    for number, run in enumerate(content["runs"]):
        remarks = "not told" if run.get("throttling") is None else "; ".join(run["throttling"]) or "nothing was seen"
        if not run["counted"]:
            remarks += " (not counted)"
        lines.append(f"| {number + 1} | {run['date']} | {run.get('commit') or 'unknown'} | {run['rounds']} | {remarks} |")
    if len({run.get("commit") for run in content["runs"]}) > 1:
        lines += ["", "The runs are not of one commit: part of the spread may be a change of the code."]
    lines += [
        "",
        f"`{content['command']}`",
        "",
    ]
    return "\n".join(lines)


def one_run(asked: argparse.Namespace, file: Path) -> int:
    """Measure once into `file`; the exit code, what went wrong printed."""
    command = [sys.executable, "-m", "edge_mtl.cli", "benchmark", str(asked.bundle), "--threads", str(asked.threads)]
    command += ["--duration", str(asked.duration), *asked.options.split(), "--save", str(file.resolve())]
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        print(f"error: {file.name}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}", file=sys.stderr)
    return done.returncode


def main() -> int:
    """Parse, run what is not kept, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds of interleaved timing in each run")
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--threshold", type=float, default=LIMIT)
    parser.add_argument(
        "--most-stolen", type=float, default=MOST_STOLEN, help="share of the machine that others may take in a run"
    )
    parser.add_argument("--options", default="", help="more options of edge-mtl benchmark, in one word: '--precision int8'")
    parser.add_argument("--work", type=Path, help="folder that runs are kept in (default: a temporary one)")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    asked = parser.parse_args()
    if asked.runs < 2:
        parser.error("--runs should be at least 2: one run agrees with itself")
    spoilt = partial(disturbed, most_stolen=asked.most_stolen)
    conditions = Conditions(threads=asked.threads)
    with tempfile.TemporaryDirectory() as temporary, Terminal().steps() as step:
        work = WorkFolder(asked.work or Path(temporary))
        try:
            digest = find(asked.bundle).digest
        except EdgeMtlError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        what = decided_by(digest, threads=asked.threads, duration_s=asked.duration, pause_s=asked.pause, options=asked.options)
        runs: list[dict[str, Any]] = []
        while sum(not spoilt(run) for run in runs) < asked.runs and len(runs) < 2 * asked.runs:
            step("runs of edge-mtl benchmark", len(runs), asked.runs)
            file = work.place(f"run-{len(runs) + 1}.json", what)
            if not file.is_file():
                if runs:
                    time.sleep(asked.pause)
                code = one_run(asked, file)
                if code:
                    return code
            try:
                runs.append(read(file))
            except EdgeMtlError as error:
                print(f"error: {error}", file=sys.stderr)
                return error.exit_code
        counted = [run for run in runs if not spoilt(run)]
        if len(counted) < 2:
            print(f"error: {len(runs) - len(counted)} of {len(runs)} runs were disturbed: {spoilt(runs[-1])}", file=sys.stderr)
            return 1
        try:
            rows = spread(counted, threshold=asked.threshold)
        except EdgeMtlError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    content = {
        "bundle": runs[0]["bundle"],
        **conditions.describe(),
        "baseline": runs[0]["baseline"],
        "duration_s": asked.duration,
        "pause_s": asked.pause,
        "limit": asked.threshold,
        "runs": [{**{name: run.get(name) for name in _KEPT}, "counted": not spoilt(run)} for run in runs],
        "rows": rows,
    }
    name = asked.out.name
    write_atomic(asked.out.with_name(f"{name}.json"), (json.dumps(content, indent=1) + "\n").encode())
    page = markdown(content)
    write_atomic(asked.out.with_name(f"{name}.md"), page.encode())
    print(page)
    return 0 if all(row["spread"] <= asked.threshold for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
