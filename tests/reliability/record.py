"""What one run of a gate found, as JSON beside all other results: counts, violations and the positive control."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mtl.bench.conditions import Conditions
from edge_mtl.files import write_atomic
from tests.reliability.gates import GATES

__all__ = ["RECORDS", "Control", "GateRun", "read_records"]

RECORDS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
"""Committed records are the files `reliability-GATE-MACHINE-DATE.json` here."""


@dataclass(frozen=True, slots=True)
class Control:
    """A fault that was put in, and what the gate said of it; empty where it said nothing, which fails the run."""

    fault: str
    seen: str


class GateRun:
    """Made when a run starts, finished when it ends. Counts may be added from several threads' results, not by threads.

    Args:
        gate: its name in `GATES`.
        command: the words that started the run; by default those of this process.
    """

    def __init__(self, gate: str, command: list[str] | None = None) -> None:
        self.gate = GATES[gate]
        self._conditions = Conditions(command or ["python", "-m", _module(), *sys.argv[1:]])
        self._began = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.controls: list[Control] = []
        self.notes: list[str] = []
        self.earlier_s = 0.0
        """Of earlier processes, whose counts are among these, where a run is resumed."""
        self.details: list[Mapping[str, Any]] = []
        """What was measured besides, plain values for JSON; kept in the record only."""

    def count(self, name: str, more: int = 1) -> None:
        """Add to what is counted: "mutants", "kills", "frames" ..."""
        self.counts[name] += more

    def violation(self, what: str) -> None:
        """Something that must not be: one line, with what repeats it (a seed, a file, a step)."""
        self.violations.append(what)

    def control(self, fault: str, seen: str) -> None:
        """A positive control: the fault that was put in, and the violation it led to (empty: none, which fails the run)."""
        self.controls.append(Control(fault, seen))

    def note(self, text: str) -> None:
        """What a reader should know: what could not be tried here, and why."""
        self.notes.append(text)

    @property
    def passed(self) -> bool:
        """No violation, something was counted, and every positive control was seen to fail."""
        return (
            not self.violations
            and any(self.counts.values())
            and bool(self.controls)
            and all(each.seen for each in self.controls)
        )

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "gate": self.gate.name,
            "passed": self.passed,
            "seconds": round(self.earlier_s + time.monotonic() - self._began, 1),
            "counts": dict(sorted(self.counts.items())),
            "violations": self.violations,
            "controls": [{"fault": each.fault, "seen": each.seen} for each in self.controls],
            "notes": self.notes,
            **({"details": self.details} if self.details else {}),
            **self._conditions.describe(),
        }

    def finish(self, out: Path | None = None) -> int:
        """Say what was found, write it to `out`, and give the exit code: 0 where the gate holds, 1 where not."""
        content = self.describe()
        print(f"{self.gate.name}: {', '.join(f'{count:,} {name}' for name, count in content['counts'].items()) or 'nothing'}")
        for each in self.violations[:20]:
            print(f"  VIOLATION {each}")
        if len(self.violations) > 20:
            print(f"  and {len(self.violations) - 20} more")
        for control in self.controls:
            print(f"  positive control: {control.fault}: {control.seen or 'NOT SEEN'}")
        print(f"{self.gate.name}: {'holds' if self.passed else 'BROKEN'}")
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out, (json.dumps(content, indent=1) + "\n").encode())
        return 0 if self.passed else 1


def read_records(folder: Path = RECORDS) -> list[dict[str, Any]]:
    """The committed records, by gate in the order of `GATES`, then by date."""
    found = [json.loads(path.read_bytes()) | {"file": path.name} for path in folder.glob("reliability-*.json")]
    order = list(GATES)
    return sorted(found, key=lambda content: (order.index(content["gate"]), content["date"], content["file"]))


def _module() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return str(spec.name).removesuffix(".__main__") if spec is not None else sys.argv[0]
