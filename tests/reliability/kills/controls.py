"""Writers with a fault, which the gate must report: one that writes in place, and one that leaves what killed ones left."""

from __future__ import annotations

import random
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.reliability.kills.commands import COMMANDS
from tests.reliability.kills.trials import Trials

__all__ = ["CONTROLS", "Control", "seen_of"]

_MOST_KILLS = 24


@dataclass(frozen=True, slots=True)
class Control:
    """A fault, and how it is put in.

    Attributes:
        faults: in the run that is killed and in the next start, by name in `commands.FAULTS`.
        command: that is killed.
        says: what the gate has to say.
    """

    fault: str
    faults: tuple[str, str]
    command: str
    says: str


CONTROLS = (
    Control("files are written in place, in pieces", ("in place", ""), "benchmark", "killed: out/"),
    Control("no writer sweeps what killed ones left", ("dies", "no sweep"), "benchmark", "left after the next start: out/"),
)


def seen_of(control: Control, context: ForkServerContext, root: Path, *, seed: int = 0) -> str:
    """What the gate said of it, with how many kills it took; empty if it said nothing of the kind."""
    place = root / f"control-{CONTROLS.index(control)}"
    place.mkdir()
    draws = random.Random(seed)
    trials = Trials(context, place, COMMANDS[control.command], faults=control.faults)
    reported: list[str] = []
    for number in range(_MOST_KILLS):
        found = trials.at_random(lambda seconds: draws.uniform(0.0, max(seconds, 0.6)), number)
        said = [problem for problem in found.problems if problem.startswith(control.says)]
        reported += said[:1]
        if len(reported) == 3:
            return f"{len(reported)} of {number + 1} kills, the first: {reported[0]}"
    return ""
