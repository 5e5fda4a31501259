"""The long run: frames, or engines loaded and closed, until so many are done; see the package."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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
from tests.reliability.soak.leaks import LEAKS, Work, leaking
from tests.reliability.soak.resources import FRAME_RULES, Rules, Sample, judge, sample, slope
from tests.reliability.soak.state import Segment, State

ROOT = Path(__file__).resolve().parents[3]
RULES = {"frames": FRAME_RULES, "cycles": CYCLE_RULES}
SAMPLED_EVERY = {"frames": 1_000, "cycles": 10}
KEPT_EVERY = {"frames": 5_000, "cycles": 100}
_ARENAS = "MALLOC_ARENA_MAX"
"""Of glibc. Each arena keeps its high-water mark, and a thread takes any of eight a core: which of them large maps meet is
chance, and grows resident memory for long where the bytes in use stay the same. With two the warm-up reaches both."""


def main() -> int:
    """Run what was asked for, then the positive controls, and write the record."""
    asked = _arguments()
    what: Work = "frames" if asked.frames else "cycles"
    if what == "frames" and _ARENAS not in os.environ:
        os.execve(sys.executable, [sys.executable, "-m", "tests.reliability.soak", *sys.argv[1:]], {**os.environ, _ARENAS: "2"})
    if asked.leak:
        print(json.dumps(watch(asked.leak, what, asked.frames or asked.cycles)))
        return 0
    run, most = GateRun(f"soak-{what}"), asked.frames or asked.cycles
    state = State(asked.state, asked.bundle if what == "frames" else f"{asked.bundle}, {what}")
    run.earlier_s = sum(segment.seconds for segment in state.segments)
    if state.done < most:
        _work(asked, what, state, most)
    return _judged(run, state, what, asked)


def _work(asked: argparse.Namespace, what: Work, state: State, most: int) -> None:
    """Another segment, until so many are done in all or the time is over; what was done is kept whatever ends it."""
    end_s = time.monotonic() + 60 * asked.minutes if asked.minutes else float("inf")
    segment = state.begin()
    with ExitStack() as stack:
        work: Frames | Cycles
        if what == "frames":
            work = Frames(stack.enter_context(_engine(asked.bundle)), SMALL if asked.bundle == "tiny" else LARGE)
        else:
            work = Cycles(stack.enter_context(_bundle(asked.bundle, built=True)), precisions=("fp32", "int8"))
        show = stack.enter_context(_progress(what, most))
        due = kept = done = 0
        try:
            for done in work.run(most - state.done):
                if done < due:
                    continue
                due = done + SAMPLED_EVERY[what]
                segment.samples.append(sample(done))
                show(state.done)
                if done >= kept:
                    kept = done + KEPT_EVERY[what]
                    _keep(state, work)
                if time.monotonic() > end_s:
                    break
            if done > segment.done:
                segment.samples.append(sample(done))
        finally:
            _keep(state, work)


def _keep(state: State, work: Frames | Cycles) -> None:
    segment = state.segments[-1]
    segment.kinds, segment.problems = dict(sorted(work.kinds.items())), list(work.problems)
    state.keep()


def _judged(run: GateRun, state: State, what: Work, asked: argparse.Namespace) -> int:
    """Judge each process by itself, run the controls, and give the exit code."""
    rules = RULES[what]
    run.count("processes", len(state.segments))
    if _ARENAS in os.environ:
        run.note(f"{_ARENAS}={os.environ[_ARENAS]}: with more arenas, resident memory is the allocator's chance for longer")
    for number, segment in enumerate(state.segments, 1):
        run.count(f"{what} of the {asked.bundle} bundle", segment.done)
        where = f"process {number}, {what} {segment.begin:,} to {segment.begin + segment.done:,}"
        for problem in (*segment.problems, *judge(segment.samples, rules, what)):
            run.violation(f"{where}: {problem}")
        run.details.append(_facts(segment, rules, where, what))
    if not asked.no_controls:
        with ThreadPoolExecutor() as processes:  # each control is a process of its own
            seen = {kind: processes.submit(_seen, kind, what, leak.run) for kind, leak in LEAKS[what].items()}
            for kind, leak in LEAKS[what].items():
                run.control(f"{leak.title}, {leak.run:,} {what}", "; ".join(seen[kind].result()))
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


def _seen(kind: str, what: Work, most: int) -> list[str]:
    """What the rules say of a process that leaks."""
    command = [sys.executable, "-m", "tests.reliability.soak", "--leak", kind, f"--{what}", str(most)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def watch(kind: str, what: Work, most: int, rules: Rules | None = None) -> list[str]:
    """Let a leak run in this process, or nothing where `kind` is "none", and say what is wrong: answers, cycles, resources."""
    samples: list[Sample] = []
    work: Frames | Cycles
    with ExitStack() as stack:
        if what == "frames":
            work = Frames(stack.enter_context(_engine("tiny")))
        else:
            work = Cycles(stack.enter_context(_bundle("tiny", built=True)), precisions=("fp32", "int8"))
        if kind != "none":
            stack.enter_context(leaking(kind, what))
        due, every = 0, min(SAMPLED_EVERY[what], max(1, most // 40))
        for done in work.run(most):
            if done >= due:
                due = done + every
                samples.append(sample(done))
        return [*work.problems, *judge(samples, rules or RULES[what], what)]


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
    parser.add_argument(
        "--leak", choices=("none", *LEAKS["frames"]), help="let this leak run so long, and print what is seen of it"
    )
    asked = parser.parse_args()
    if bool(asked.frames) == bool(asked.cycles):
        parser.error("one of --frames and --cycles is needed")
    return asked


if __name__ == "__main__":
    sys.exit(main())
