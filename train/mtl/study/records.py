"""What a run wrote down about itself, read back: metrics.jsonl, config.json and how its process ended.

Knows the files of a run's folder; knows nothing about what the numbers mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_mtl.documents import parse_json
from edge_mtl.files import write_atomic
from edge_mtl.remedies import told
from mtl.study.toml_tables import StudyError

__all__ = ["OUTCOME", "Outcome", "RunRecords", "read_outcome", "read_records", "write_outcome"]

OUTCOME = "outcome.json"
_METRICS = "metrics.jsonl"

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last process of a run ended.

    Attributes:
        exit_code: 0 when it finished; negative for a signal.
        message: its last words, when it failed.
        seconds: of all its processes together.
        machine, commit: where it ran, and from which code.
    """

    exit_code: int
    message: str = ""
    seconds: float = 0.0
    machine: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True)
class RunRecords:
    """The records of one run, each kind in order of its steps; what a resumed run repeated is there once."""

    validations: tuple[Record, ...] = ()
    cosines: tuple[Record, ...] = ()
    weights: tuple[Record, ...] = ()
    tests: tuple[Record, ...] = ()
    parameters: int = 0
    done: Record = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.done)

    @property
    def step(self) -> int:
        """The last step that was written about."""
        every = (*self.validations, *self.cosines, *self.tests)
        return max((int(record["step"]) for record in every), default=0)

    def test(self, weights: str) -> Record | None:
        """The test metrics of the "last" weights, or of those that were "best" on the validation frames."""
        found = [record for record in self.tests if record.get("weights", "last") == weights]
        return found[-1] if found else None


def read_records(folder: Path) -> RunRecords:
    """Read a run; one that has written nothing yet is empty.

    Raises:
        StudyError: the file cannot be read, or a line but the last is damaged.
    """
    path = folder / _METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return RunRecords()
    except (OSError, UnicodeDecodeError) as exc:
        raise StudyError(f"{path} cannot be read ({exc}). Remove the run's folder and train it again") from exc
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines):
        try:
            record = parse_json(line)
            kind, step = record["kind"], int(record.get("step", 0))
            int(record.get("parameters", 0))
            if not isinstance(kind, str) or (kind == "test" and not isinstance(record.get("weights", ""), str)):
                raise TypeError("its kind and the weights of a test should be names")
        except (ValueError, TypeError, KeyError, OverflowError) as exc:
            if number == len(lines) - 1:  # a process that was killed while it wrote
                break
            raise StudyError(f"{path}: line {number + 1} is damaged ({exc}). Train the run again") from exc
        if kind == "start":  # a resumed run repeats what came after its checkpoint
            records = [one for one in records if int(one.get("step", 0)) <= step and one["kind"] not in ("test", "done")]
            if step == 0:
                records = []
        records.append(record)
    return _sorted(records)


def _sorted(records: list[dict[str, Any]]) -> RunRecords:
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        latest[record["kind"], record.get("step"), record.get("weights") if record["kind"] == "test" else None] = record
    kinds: dict[str, list[dict[str, Any]]] = {}
    for record in latest.values():
        kinds.setdefault(record["kind"], []).append(record)

    def of(kind: str) -> tuple[Record, ...]:
        return tuple(sorted(kinds.get(kind, []), key=lambda record: int(record.get("step", 0))))

    starts = kinds.get("start", [])
    return RunRecords(
        validations=of("validation"),
        cosines=of("cosine"),
        weights=of("weights"),
        tests=of("test"),
        parameters=int(starts[-1].get("parameters", 0)) if starts else 0,
        done=kinds["done"][-1] if "done" in kinds else {},
    )


def read_outcome(folder: Path) -> Outcome | None:
    """How the run's last process ended; None when none has ended, or none is known of."""
    try:
        content = parse_json((folder / OUTCOME).read_text(encoding="utf-8"))
        return Outcome(**content)
    except (OSError, ValueError, TypeError):
        return None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write down how a process ended. Raises StudyError when that cannot be written."""
    content = {name: getattr(outcome, name) for name in Outcome.__slots__}
    try:
        write_atomic(folder / OUTCOME, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as exc:
        raise StudyError(f"{folder / OUTCOME} cannot be written {told(exc)}") from exc
