"""The long run: python -m tests.reliability.kills --kills 200 [--commands build,calibrate] [--minutes M] [--out FILE]

Every command is killed at so many random moments, and where strace works at every kind of step that changes a file. Several
runs with other seeds or commands add up. Exit code 1 where something was torn, left or lost.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.reliability.kills import commands, node
from tests.reliability.kills.child import forking
from tests.reliability.kills.controls import CONTROLS, seen_of
from tests.reliability.kills.steps import missing
from tests.reliability.kills.trials import Outcome, Trials
from tests.reliability.record import GateRun
from tests.reliability.trials import ROOT

TRAINING = "train"
_TOGETHER = 25
"""Kills of training against one undisturbed run."""


def main() -> int:
    """Parse, kill, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="random moments of each command (default: %(default)s)")
    parser.add_argument(
        "--commands", default="", help=f"names with commas between; all by default: {', '.join(commands.COMMANDS)}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=600.0, help="each command has its part of them (default: %(default)s)")
    parser.add_argument("--no-steps", action="store_true", help="random moments only")
    parser.add_argument("--out", type=Path, help="file for the record")
    asked = parser.parse_args()
    names = [name for name in asked.commands.split(",") if name] or list(commands.COMMANDS)
    if unknown := set(names) - set(commands.COMMANDS):
        parser.error(f"--commands: unknown: {', '.join(sorted(unknown))}")
    run = GateRun("kills")
    training = any("torch" in commands.COMMANDS[name].needs for name in names)
    ros = "rclpy" in (need for name in names for need in commands.COMMANDS[name].needs) and importlib.util.find_spec("rclpy")
    more = (*(commands.PRELOADED_FOR_TRAINING if training else ()), *(node.PRELOADED if ros else ()))
    sys.path[:0] = [str(node.PACKAGE), str(ROOT / "train")]
    context = forking(*commands.PRELOADED, *more)
    run.note("a file of four bytes that Python's tempfile makes and removes in the system's folder may be left: it is not ours")
    run.note("receipts of engines that a killed build did not finish stay: empty files in the cache, 4,096 at most")
    no_steps = "--no-steps was given" if asked.no_steps else missing()
    if no_steps:
        run.note(f"steps that change files were not struck: {no_steps}")
    logging.disable(logging.WARNING)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root,
        Progress(*columns, console=Console(stderr=True), refresh_per_second=1) as shown,
    ):
        for control in CONTROLS:
            run.control(control.fault, seen_of(control, context, Path(root)))
        end_s = time.monotonic() + 60 * asked.minutes
        for index, name in enumerate(names):
            command = commands.COMMANDS[name]
            if reason := commands.unavailable(command):
                run.note(reason)
                continue
            until_s = time.monotonic() + (end_s - time.monotonic()) / (len(names) - index)
            trials, shown_as = Trials(context, Path(root), command), shown.add_task(name)
            told = partial(shown.update, shown_as)
            if not no_steps:
                _strike(run, trials, (time.monotonic() + until_s) / 2, told)
            _surprise(run, trials, asked.kills // command.share, f"{asked.seed} {name}", until_s, told)
            if name == TRAINING:
                _resume(run, Path(root) / "resumed", asked.kills, asked.seed, until_s, told)
    return run.finish(asked.out)


def _strike(run: GateRun, trials: Trials, until_s: float, told: Callable[..., None]) -> None:
    """Every kind of step that changes a file."""
    steps, struck = trials.steps(), set()
    random.Random(0).shuffle(steps)  # where time runs out, not all of the last ones are left out
    for done, step in enumerate(steps):
        told(completed=done, total=len(steps))
        if time.monotonic() > until_s:
            run.note(f"{trials.command.name}: {done} of {len(steps)} steps were struck before the time was over")
            break
        found = trials.at_step(step)
        _count(run, trials.command.name, found, step.kind)
        run.count("kills at steps", found.killed)
        struck.add(found.step)
    run.count("kinds of steps", len(struck - {""}))
    run.note(
        "steps are system calls that change a file, struck as they are entered; of each kind, which is the call and where its "
        "file lies, the first, the middle and the last"
    )


def _surprise(run: GateRun, trials: Trials, kills: int, seed: str, until_s: float, told: Callable[..., None]) -> None:
    """Random moments, until enough were inside the run."""
    draws, name, done = random.Random(seed), trials.command.name, 0
    for number in range(3 * kills):
        told(completed=done, total=kills)
        if done == kills or time.monotonic() > until_s:
            break
        found = trials.at_random(lambda seconds: draws.uniform(0.0, seconds), number)
        _count(run, name, found, f"random moment {number} of seed {seed!r}")
        done += found.killed
    run.count(f"kills of {name}", done)


def _count(run: GateRun, name: str, found: Outcome, where: str) -> None:
    run.count("kills after something was written", found.begun)
    run.count("unfinished files swept by the next start", found.left)
    for problem in found.problems:
        run.violation(f"{name}, {where}: {problem}")


def _resume(run: GateRun, root: Path, kills: int, seed: int, until_s: float, told: Callable[..., None]) -> None:
    """Training that is resumed after each kill ends as training that nobody disturbed."""
    from benchmarks.killed_runs import survive
    from tests.reliability.kills.oracle import leftovers

    done, part = 0, 0
    while done < kills and time.monotonic() < until_s:
        told(completed=done, total=kills)
        place, part_seed = root / str(part), 1000 * seed + part
        place.mkdir(parents=True)
        found = survive(place, kills=min(_TOGETHER, kills - done), steps=12, seed=part_seed, told=lambda line: None)
        run.count("kills of train, resumed to its end", found.kills)
        run.count("trainings compared with one that nobody disturbed", found.runs)
        for difference in found.differences:
            run.violation(f"train, resumed, seed {part_seed}: {difference}")
        for name in leftovers(place):
            run.violation(f"train, resumed, seed {part_seed}: left at the end: {name}")
        done, part = done + found.kills, part + 1


if __name__ == "__main__":
    sys.exit(main())
