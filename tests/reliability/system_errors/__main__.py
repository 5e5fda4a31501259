"""python -m tests.reliability.system_errors [COMMAND ...] [--steps N] [--every-error] [--seed N] [--skip disks] [--out FILE]"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.reliability.record import GateRun
from tests.reliability.system_errors import controls, disks
from tests.reliability.system_errors.forked import attach_works, forked
from tests.reliability.system_errors.steps import chosen, errors_of
from tests.reliability.system_errors.trial import Site, shorten, site
from tests.reliability.trials import COMMANDS

_PAGE = 4096
_FULL = "0,1,8,33,66,95"
"""Of the room that a command needs, percent that a full disk still has."""
_AGAIN = 4
"""Every so many steps the command is run once more with nothing in its way."""
_REAL = (
    "predict-image",
    "predict-video",
    "predict-bag",
    "predict-mcap",
    "build-engine",
    "calibrate",
    "export",
    "verify",
    "train",
)
"""Commands that run on real disks; the others write by the same functions."""


def main() -> int:
    """Try every step of the commands, then real disks; the gate's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"default: {' '.join(COMMANDS)}")
    parser.add_argument(
        "--steps", type=int, default=1000, metavar="N", help="at most N of each kind of step: first, last, between"
    )
    parser.add_argument("--every-error", action="store_true", help="every error at every step, not one after the other")
    parser.add_argument("--seed", type=int, default=0, help="which error is the first step's")
    parser.add_argument("--skip", choices=("disks", "steps"), help="one of the two parts")
    parser.add_argument("--fill", default=_FULL, metavar="LIST", help="percent of what is needed that a full disk has left")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record")
    asked = parser.parse_args()
    gate = GateRun("errors")
    reason = attach_works()
    if reason:
        gate.note(f"no step was made to fail: {reason}")
    elif asked.skip != "steps":
        for name in asked.commands or COMMANDS:
            with site(name) as trials:
                _every_step(gate, trials, asked.steps, every_error=asked.every_error, turn=asked.seed)
    reason = disks.mounting_works()
    if reason:
        gate.note(f"no real disk was tried: {reason}")
    elif asked.skip != "disks":
        for name in asked.commands or _REAL:
            _real_disks(gate, name, [int(part) for part in asked.fill.split(",")])
    gate.control(*controls.half_a_file())
    gate.control(*controls.an_error_that_escapes())
    return gate.finish(asked.out)


def _every_step(gate: GateRun, trials: Site, most: int, *, every_error: bool, turn: int) -> None:
    name = trials.command.name
    steps = chosen(trials.steps, most)
    gate.count("commands")
    gate.count("write steps", len(trials.steps))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for number, step in enumerate(progress.track(steps, description=name)):
            for error in errors_of(step, every_error=every_error, turn=turn + number):
                place = Path(step.path).relative_to(trials.folder)
                said = trials.fail_at(step, error, again=number % _AGAIN == 0)
                _note(gate, said, f"{name}: {error} at {step.call} {step.number} of {place}")
        for read in trials.command.reads:
            _note(gate, trials.fail_to_read(read), f"{name}: EIO of every read of {read}")


def _note(gate: GateRun, said: list[str] | None, what: str) -> None:
    if said is None:
        gate.count("steps not met again")
        return
    gate.count("errors injected")
    for text in said:
        gate.violation(f"{what}: {text}")


def _real_disks(gate: GateRun, name: str, fill: list[int]) -> None:
    with disks.small_tmpfs() as disk, site(name, traced=False, work=disk.path) as trials:
        changed = [one for one, content in trials.normal.after.items() if content != trials.normal.before.get(one)]
        needed = (sum(-(-trials.folder.joinpath(one).stat().st_size // _PAGE) * _PAGE for one in changed), len(changed))
        trials.fresh()
        used = disk.used()
        for percent in fill:
            for option, taken, more, unit in zip(("size", "nr_inodes"), used, needed, (_PAGE, 1), strict=True):
                limit = -(-(taken + more * percent // 100) // unit) * unit
                enough = "256m" if option == "size" else "100000"
                _on_disk(
                    gate,
                    trials,
                    f"{name}: a tmpfs with {percent}% of the {option} that is needed",
                    partial(disk.remount, f"{option}={limit}"),
                    partial(disk.remount, f"{option}={enough}"),
                )
        _on_disk(gate, trials, f"{name}: a read-only disk", partial(disk.remount, "ro"), partial(disk.remount, "rw"))
    if reason := disks.quota_works():
        gate.note(f"no quota was tried: {reason}")
        return
    with disks.disk_with_quota() as disk, site(name, traced=False, work=disk.path) as trials:
        for kib in (0, 16, 64, 256):
            _on_disk(
                gate,
                trials,
                f"{name}: {kib} KiB left of a quota",
                partial(disks.limit_quota, disk, kib),
                partial(disks.limit_quota, disk, None),
            )


def _on_disk(
    gate: GateRun,
    trials: Site,
    what: str,
    disturb: Callable[[], object],
    restore: Callable[[], object],
) -> None:
    trials.fresh()
    disturb()
    try:
        found, _ = forked(trials.command, trials.folder, timeout_s=trials.timeout_s, before=shorten)
    finally:
        restore()
    gate.count("runs on real disks")
    if found.code == 0:
        gate.count("runs on real disks that went well")
    for text in trials.judged(found):
        gate.violation(f"{what}: {text}")


if __name__ == "__main__":
    sys.exit(main())
