"""python -m tests.reliability.system_errors [COMMAND ...] [--steps N] [--every-error] [--seed N] [--minutes M] [--out FILE]"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.reliability.record import GateRun
from tests.reliability.system_errors import controls, disks
from tests.reliability.system_errors.forked import attach_works, forked
from tests.reliability.system_errors.steps import chosen, errors_of
from tests.reliability.system_errors.trial import PAGE, Site, shorten, site
from tests.reliability.trials import COMMANDS

_FULL = "0,1,8,33,66,95"
"""Of the room that a command needs, percent that a full disk still has."""
_AGAIN = 4
"""Every so many steps the command is run once more with nothing in its way."""
_QUOTAS = ("predict-image", "build-engine", "train")
"""Commands that are given a quota, which takes a disk of its own; the others write by the same functions."""


def main() -> int:
    """Try every step of the commands, then real disks; the gate's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"default: {' '.join(COMMANDS)}")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="of each kind at most N: first, last, between")
    parser.add_argument("--every-error", action="store_true", help="every error at every step, not one after the other")
    parser.add_argument("--seed", type=int, default=0, help="which error is the first step's")
    parser.add_argument("--skip", choices=("disks", "steps"), help="one of the two parts")
    parser.add_argument("--fill", default=_FULL, metavar="LIST", help="percent of what is needed that a full disk has left")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin nothing after so many (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record")
    asked = parser.parse_args()
    until = time.monotonic() + 60 * asked.minutes
    gate = GateRun("errors")
    gate.control(*controls.half_a_file())
    gate.control(*controls.an_error_that_escapes())
    traced, mounted = attach_works(), disks.mounting_works()
    if traced:
        gate.note(f"no step was made to fail: {traced}")
    if mounted:
        gate.note(f"no real disk was tried: {mounted}")
    for name in asked.commands or COMMANDS:
        if time.monotonic() > until:
            gate.note(f"{name} was not tried: the minutes were over")
            continue
        with ExitStack() as stack:
            disk = None if mounted else stack.enter_context(disks.small_tmpfs())
            trials = stack.enter_context(site(name, traced=not traced, work=None if disk is None else disk.path))
            gate.count("commands")
            if not traced and asked.skip != "steps":
                _every_step(gate, trials, asked.steps, every_error=asked.every_error, turn=asked.seed, until=until)
            if disk is not None and asked.skip != "disks":
                _full_disk(gate, trials, disk, [int(part) for part in asked.fill.split(",")], until=until)
        if not mounted and asked.skip != "disks" and name in _QUOTAS and time.monotonic() < until:
            _quota(gate, name)
    return gate.finish(asked.out)


def _every_step(gate: GateRun, trials: Site, most: int, *, every_error: bool, turn: int, until: float) -> None:
    name = trials.command.name
    steps = chosen(trials.steps, most)
    gate.count("write steps", len(trials.steps))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for read in progress.track(trials.command.reads, description=f"{name}, reading"):
            if time.monotonic() < until:
                _note(gate, trials.fail_to_read(read), f"{name}: EIO of every read of {read}")
        for number, step in enumerate(progress.track(steps, description=name)):
            if time.monotonic() > until:
                gate.note(f"{name}: {len(steps) - number} steps were not tried: the minutes were over")
                return
            for error in errors_of(step, every_error=every_error, turn=turn + number):
                place = Path(step.path).relative_to(trials.folder)
                said = trials.fail_at(step, error, again=number % _AGAIN == 0)
                _note(gate, said, f"{name}: {error} at {step.call} {step.number} of {place}")


def _note(gate: GateRun, said: list[str] | None, what: str) -> None:
    if said is None:
        gate.count("steps not met again")
        return
    gate.count("errors injected")
    _tell(gate, said, what)


def _tell(gate: GateRun, said: list[str], what: str) -> None:
    for text in said:
        print(f"VIOLATION {what}: {text}", file=sys.stderr, flush=True)
        gate.violation(f"{what}: {text}")


def _full_disk(gate: GateRun, trials: Site, disk: disks.Disk, fill: list[int], *, until: float) -> None:
    """The tmpfs that the trials are on has so much room, or so many inodes; at last it is read-only."""
    name = trials.command.name
    trials.fresh()
    used = disk.used()
    for percent in fill:
        for option, taken, more, unit in zip(("size", "nr_inodes"), used, trials.room, (PAGE, 1), strict=True):
            limit = -(-(taken + more * percent // 100) // unit) * unit
            enough = "256m" if option == "size" else "100000"
            if time.monotonic() < until:
                what = f"{name}: a tmpfs with {percent}% of the {option} that is needed"
                _on_disk(gate, trials, what, partial(disk.remount, f"{option}={limit}"), f"{option}={enough}", disk)
    _on_disk(gate, trials, f"{name}: a read-only disk", partial(disk.remount, "ro"), "rw", disk)


def _quota(gate: GateRun, name: str) -> None:
    if reason := disks.quota_works():
        gate.note(f"no quota was tried: {reason}")
        return
    with disks.disk_with_quota() as disk, site(name, traced=False, work=disk.path) as trials:
        for kib in (0, 16, 64):
            _on_disk(gate, trials, f"{name}: {kib} KiB left of a quota", partial(disks.limit_quota, disk, kib), None, disk)


def _on_disk(
    gate: GateRun, trials: Site, what: str, disturb: Callable[[], object], restored: str | None, disk: disks.Disk
) -> None:
    """One run on a disk that refuses, and one after it is as it was: by `restored`, an option, or without its quota."""
    trials.fresh()
    disturb()
    try:
        found, _ = forked(trials.command, trials.folder, timeout_s=trials.timeout_s, before=shorten)
    finally:
        if restored is not None:
            disk.remount(restored)
        else:
            disks.limit_quota(disk, None)
    gate.count("runs on real disks")
    if found.code == 0:
        gate.count("runs on real disks that went well")
    _tell(gate, trials.judged(found), what)


if __name__ == "__main__":
    sys.exit(main())
