"""The long run: frames, or engines loaded and closed, until so many are done; see the package."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edge_mtl import Engine
from edge_mtl.builder import pipeline
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import DEMO_BUNDLE, Bundle
from tests.bundles import make_bundle
from tests.reliability.record import GateRun
from tests.reliability.soak.cycles import CYCLE_RULES, Cycles
from tests.reliability.soak.frames import LARGE, SMALL, Frames
from tests.reliability.soak.leaks import LEAKS, leaking
from tests.reliability.soak.resources import FRAME_RULES, Rules, Sample, judge, sample, slope
from tests.reliability.soak.state import Segment, State

ROOT = Path(__file__).resolve().parents[3]
SAMPLED_EVERY = 1_000
KEPT_EVERY = 5_000
CONTROL_FRAMES = {"bytes": 100_000, "descriptors": 12_000, "threads": 12_000, "shared": 12_000}
"""How long each leak is let run: 100 B in 100,000 frames are 9.5 MiB, where 2 MiB are allowed."""


def main() -> int:
    """Run what was asked for, then the positive controls, and write the record."""
    asked = _arguments()
    if asked.leak:
        print(json.dumps(_leak(asked.leak, asked.frames)))
        return 0
    return _frames(asked) if asked.frames else _cycles(asked)


def _frames(asked: argparse.Namespace) -> int:
    run, state = GateRun("soak-frames"), State(asked.state, asked.bundle)
    end_s = time.monotonic() + 60 * asked.minutes if asked.minutes else float("inf")
    if state.done < asked.frames:
        segment = state.begin()
        with _engine(asked.bundle) as engine, _progress("frames", asked.frames) as show:
            frames = Frames(engine, SMALL if asked.bundle == "tiny" else LARGE)
            try:
                due, kept = 0, 0
                for done in frames.run(asked.frames - state.done):
                    if done >= due:
                        due = done + SAMPLED_EVERY
                        segment.samples.append(sample(done))
                        show(state.done)
                        if time.monotonic() > end_s:
                            break
                        if done >= kept:
                            kept = done + KEPT_EVERY
                            _note(segment, frames)
                            state.keep()
                segment.samples.append(sample(done))
            finally:
                _note(segment, frames)
                state.keep()
    return _judged(run, state, FRAME_RULES, "frames", asked)


def _cycles(asked: argparse.Namespace) -> int:
    run, state = GateRun("soak-cycles"), State(asked.state, "tiny, cycles")
    if state.done < asked.cycles:
        segment = state.begin()
        with _bundle("tiny", built=True) as path, _progress("cycles", asked.cycles) as show:
            cycles = Cycles(path, precisions=("fp32", "int8"))
            try:
                for done in cycles.run(asked.cycles - state.done):
                    if done % 10 == 0:
                        segment.samples.append(sample(done))
                        show(state.done)
                    if done % 100 == 0:
                        _note(segment, cycles)
                        state.keep()
            finally:
                _note(segment, cycles)
                state.keep()
    return _judged(run, state, CYCLE_RULES, "cycles", asked)


def _judged(run: GateRun, state: State, rules: Rules, what: str, asked: argparse.Namespace) -> int:
    """Judge each process by itself, run the controls, and give the exit code."""
    run.count("processes", len(state.segments))
    for number, segment in enumerate(state.segments, 1):
        run.count(what, segment.done)
        where = f"process {number}, {what} {segment.begin:,} to {segment.begin + segment.done:,}"
        for problem in (*segment.problems, *judge(segment.samples, rules, what)):
            run.violation(f"{where}: {problem}")
        run.details.append(_facts(segment, rules, where, what))
    if not asked.no_controls:
        for kind, title in LEAKS.items():
            frames = CONTROL_FRAMES[kind]
            run.control(f"{title}, {frames:,} frames", "; ".join(_seen(kind, frames)))
    return run.finish(asked.out)


def _facts(segment: Segment, rules: Rules, where: str, what: str) -> Mapping[str, Any]:
    """What was measured in one process."""
    settled = [each for each in segment.samples if each.done >= rules.warm_up]
    facts: dict[str, Any] = {"process": where, "commit": segment.commit, "minutes": round(segment.seconds / 60, 1)}
    if len(settled) > 1:
        first, last = settled[0], settled[-1]
        for name in ("rss", "pss", "uss"):
            facts[name] = f"{slope(settled, name).describe(rules.per)} {what}"
        for name in ("rss", "descriptors", "threads", "shared"):
            facts[f"{name}_from_to"] = [getattr(first, name), getattr(last, name)]
    return facts | {"kinds": segment.kinds}


def _note(segment: Segment, work: Frames | Cycles) -> None:
    segment.kinds = dict(sorted(work.kinds.items()))
    segment.problems = list(work.problems)


def _seen(kind: str, frames: int) -> list[str]:
    """What the rules say of a process that leaks."""
    command = [sys.executable, "-m", "tests.reliability.soak", "--leak", kind, "--frames", str(frames)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def _leak(kind: str, frames: int, rules: Rules = FRAME_RULES) -> list[str]:
    """Let a leak run in this process, or nothing where `kind` is "none", and judge it."""
    samples: list[Sample] = []
    with _engine("tiny") as engine, nullcontext() if kind == "none" else leaking(kind):
        work, due = Frames(engine), 0
        for done in work.run(frames):
            if done >= due:
                due = done + min(SAMPLED_EVERY, frames // 40)
                samples.append(sample(done))
        return [*work.problems, *judge(samples, rules, "frames")]


@contextmanager
def _engine(bundle: str) -> Iterator[Engine]:
    """An engine of one thread in ONNX Runtime: FP32 of the tiny bundle, INT8 of the demo bundle."""
    with _bundle(bundle, built=bundle != "tiny") as path:
        precision = "fp32" if bundle == "tiny" else "int8"
        with Engine(path, backend="onnxruntime", precision=precision, threads=1) as engine:
            yield engine


@contextmanager
def _bundle(name: str, *, built: bool) -> Iterator[Path]:
    """A folder with the bundle, and with an INT8 engine of it where it is to be `built`."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, mock.patch.dict("os.environ", XDG_CACHE_HOME=f"{folder}/cache"):
        path = Path(folder) / name
        if name == "tiny":
            make_bundle(path, height=16, width=16)
        else:
            shutil.copytree(DEMO_BUNDLE, path, ignore=shutil.ignore_patterns("engines"))
        if built:
            with mock.patch.object(pipeline, "_ROUNDS", 1):
                build_engine(Bundle.open(path), precision="int8", backend="onnxruntime", threads=1, budget=None)
        yield path


@contextmanager
def _progress(what: str, total: int) -> Iterator[Any]:
    """A line that says how far it is; drawn when it is told, for a thread of its own would count as one of the engine's."""
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task(what, total=total)

        def show(done: int) -> None:
            progress.update(task, completed=done, refresh=True)

        yield show


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.soak", description=__doc__)
    parser.add_argument("--frames", type=int, default=0, help="so many in all, those of earlier runs with this --state too")
    parser.add_argument("--cycles", type=int, default=0, help="engines to load and close, in place of frames")
    parser.add_argument("--bundle", choices=("tiny", "default"), default="tiny", help="whose frames")
    parser.add_argument("--state", type=Path, help="folder that a later run with the same --state goes on from")
    parser.add_argument("--minutes", type=float, default=0, help="end after so many, however many frames are done")
    parser.add_argument("--out", type=Path, help="file for the record")
    parser.add_argument("--no-controls", action="store_true", help="leave the positive controls out: such a run does not pass")
    parser.add_argument("--leak", choices=("none", *LEAKS), help="let this leak run for --frames and print what is seen of it")
    asked = parser.parse_args()
    if bool(asked.frames) == bool(asked.cycles):
        parser.error("one of --frames and --cycles is needed")
    return asked


if __name__ == "__main__":
    sys.exit(main())
