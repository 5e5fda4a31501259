"""The long run: so many schedules, of all scenarios in turn; see the package."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.progress import track

from tests.reliability.races.controls import CONTROLS
from tests.reliability.races.scenarios import SCENARIOS, Scenario, shared_by_threads
from tests.reliability.races.stage import Stage, make_stage
from tests.reliability.record import GateRun

__all__ = ["play", "stage_of"]

INFERENCES = 10_000
"""Of each of four threads that share an engine, once in a run."""
_CONTROL_SEEDS = 5


@contextmanager
def stage_of(folder: Path) -> Iterator[Stage]:
    """A stage in `folder` that schedules play on copies of."""
    with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder / "cache"), OMP_NUM_THREADS="1"):
        yield make_stage(folder / "stage")


def play(stage: Stage, scenario: Scenario, seed: int) -> list[str]:
    """What went wrong in one schedule, on a copy of the stage, which is removed."""
    with tempfile.TemporaryDirectory(prefix="race-") as folder:
        cache = Path(folder) / "cache"
        with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(cache)):
            compiled = Path(stage.folder).parent / "cache"
            if compiled.is_dir():
                shutil.copytree(compiled, cache)
            problems = scenario(stage.copy(Path(folder) / "stage"), seed)
            return [problem.replace(f"{folder}{os.sep}", "") for problem in problems]


def main() -> int:
    """Play schedules, then the positive controls, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.races", description=__doc__)
    parser.add_argument("--schedules", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule")
    parser.add_argument("--only", help="scenarios with this in their title")
    parser.add_argument("--minutes", type=float, default=0, help="end after so many, however many schedules are done")
    parser.add_argument("--out", type=Path, help="file for the record")
    asked = parser.parse_args()
    run, end_s = GateRun("races"), time.monotonic() + 60 * (asked.minutes or 1e9)
    titles = [title for title, (_, times) in SCENARIOS.items() for _ in range(times) if (asked.only or "") in title]
    random.Random(0).shuffle(titles)  # so that a run that ends early has some of each
    with tempfile.TemporaryDirectory(prefix="races-") as folder, stage_of(Path(folder)) as stage:
        if not asked.only:
            run.count("inferences of threads that share an engine", 4 * INFERENCES)
            for problem in play(stage, lambda own, seed: shared_by_threads(own, seed, inferences=INFERENCES), asked.seed):
                run.violation(f"{INFERENCES:,} inferences in each of four threads: {problem}")
        for title, control in CONTROLS.items():
            seen: list[str] = []
            for seed in range(asked.seed, asked.seed + _CONTROL_SEEDS):
                seen = seen or play(stage, control, seed)
            run.control(title, "; ".join(seen[:2]))
        seeds = range(asked.seed, asked.seed + asked.schedules)
        for seed in track(seeds, "schedules", console=Console(stderr=True), auto_refresh=False):
            if time.monotonic() > end_s:
                break
            title = titles[seed % len(titles)]
            run.count("schedules")
            run.count(f"schedules of {title}")
            for problem in play(stage, SCENARIOS[title][0], seed):
                run.violation(f"seed {seed}, {title}: {problem}")
                print(run.violations[-1], flush=True)
    return run.finish(asked.out)


if __name__ == "__main__":
    sys.exit(main())
