"""python -m tests.reliability.starvation [KIND ...] [--commands NAME,NAME] [--minutes M] [--out FILE]"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.reliability.record import GateRun
from tests.reliability.starvation import controls
from tests.reliability.starvation.conditions import KINDS, Condition, conditions, memory, memory_ceilings
from tests.reliability.starvation.trial import Site, site
from tests.reliability.trials import COMMANDS

_MEMORY = ("predict-image", "build-engine", "script", "train")


def main() -> int:
    """Try every condition on its commands; the gate's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"default: memory {' '.join(KINDS)}")
    parser.add_argument("--commands", default="", metavar="LIST", help="only these, with commas between")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin nothing after so many (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record")
    asked = parser.parse_args()
    until = time.monotonic() + 60 * asked.minutes
    gate = GateRun("starvation")
    gate.control(*controls.a_missing_stream())
    kinds = asked.kinds or ["memory", *KINDS]
    wanted = set(asked.commands.split(",")) if asked.commands else set(COMMANDS)
    with contextlib.ExitStack() as groups:
        every = [condition for kind in kinds if kind != "memory" for condition in groups.enter_context(conditions(kind))]
        for condition in every:
            if condition.missing:
                gate.note(f"{condition.name}: not tried, {condition.missing}")
        possible = [condition for condition in every if not condition.missing]
        with Progress(console=Console(stderr=True), transient=True) as progress:
            names = [name for name in COMMANDS if name in wanted and _concerned(name, possible, kinds)]
            for name in progress.track(names, description="commands"):
                if time.monotonic() > until:
                    gate.note(f"{name} was not tried: the minutes were over")
                    continue
                with site(name) as trials:
                    gate.count("commands")
                    for condition in progress.track([one for one in possible if name in one.commands], description=name):
                        if time.monotonic() < until:
                            _try(gate, trials, condition)
                        else:
                            gate.note(f"{name} with {condition.name} was not tried: the minutes were over")
                    if "memory" in kinds and name in _MEMORY and time.monotonic() < until:
                        _ever_more_memory(gate, trials)
    return gate.finish(asked.out)


def _concerned(name: str, possible: list[Condition], kinds: list[str]) -> bool:
    return any(name in condition.commands for condition in possible) or ("memory" in kinds and name in _MEMORY)


def _try(gate: GateRun, trials: Site, condition: Condition) -> int | None:
    found, said = trials.tried(condition)
    gate.count("trials")
    gate.count("trials that went well" if found.code == 0 else "trials that ended in an error")
    if found.code not in (0, None):
        said += trials.works_again()
    for text in said:
        print(f"VIOLATION {trials.command.name} with {condition.name}: {text}", file=sys.stderr, flush=True)
        gate.violation(f"{trials.command.name} with {condition.name}: {text}")
    return found.code


def _ever_more_memory(gate: GateRun, trials: Site) -> None:
    for ceiling in memory_ceilings():
        if _try(gate, trials, memory(ceiling)) == 0:
            gate.note(f"{trials.command.name} works with {ceiling >> 20} MiB of address space")
            return
    gate.violation(f"{trials.command.name} does not work with {ceiling >> 20} MiB of address space")


if __name__ == "__main__":
    sys.exit(main())
