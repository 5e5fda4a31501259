"""What sensitivity found, as values, tables in JSON, and files that a later run continues from. Knows no graphs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_mtl.documents import parse_json
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.numbers import is_number
from edge_mtl.remedies import told

__all__ = ["BlockSensitivity", "Sensitivity", "load_sensitivity", "save_sensitivity"]

_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class BlockSensitivity:
    """One block quantized alone, all others in FP32.

    Attributes:
        name, layers: which, and how many layers it has.
        sqnr_db: by task, of the network's raw maps against FP32.
        lost: by name of a budget (miou, rel, normal), see `edge_mtl.evaluation.budget.Budget`; empty without labels.
        agreement: with FP32, by name.
        start: share of the network's work that was not run again for it.
        gain: share of the float graph's time that is saved; below 0 it is slower. None if it was not timed.
        gain_high: the same at the upper quartile of the rounds: where even that is below 0, the block does not pay.
    """

    name: str
    layers: int
    sqnr_db: Mapping[str, float]
    lost: Mapping[str, float]
    agreement: Mapping[str, float]
    start: float = 0.0
    gain: float | None = None
    gain_high: float | None = None

    @property
    def worst_db(self) -> float:
        """SQNR of the head that suffers most."""
        return min(self.sqnr_db.values())

    @property
    def noise(self) -> float:
        """Share of the worst head's power that is noise: adds up over blocks, about."""
        return float(10.0 ** (-self.worst_db / 10.0))


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """All blocks of a network.

    Attributes:
        key: digest of all that the rows depend on.
        target: the runtime that graphs were emitted for.
        backend: the runtime that was timed; "" if none was.
        baseline_ms: FP32's median; None if it was not timed.
        frames: how many frames were scored.
        reference: FP32's accuracy on them.
        rows: in the network's order.
    """

    key: str
    bundle: str
    target: str
    level: str
    backend: str
    frames: int
    reference: Mapping[str, float]
    baseline_ms: float | None
    rows: tuple[BlockSensitivity, ...]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Sensitivity:
        """The inverse of `to_dict`. Raises ValueError, TypeError or KeyError on anything else."""
        values = dict(content)
        if values.pop("format_version") != _FORMAT_VERSION:
            raise ValueError(f"format_version {_FORMAT_VERSION} was expected")
        found = cls(**values | {"rows": tuple(_block(row) for row in values["rows"])})
        words = (found.key, found.bundle, found.target, found.level, found.backend)
        if not all(isinstance(word, str) for word in words) or not isinstance(found.frames, int):
            raise TypeError("key, bundle, target, level and backend should be words, and frames a count")
        _check_numbers(found.reference)
        _check_number(found.baseline_ms, or_none=True)
        return found

    def ranked(self) -> tuple[BlockSensitivity, ...]:
        """The most sensitive first."""
        return tuple(sorted(self.rows, key=lambda row: row.worst_db))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format_version": _FORMAT_VERSION, **asdict(self)}


def _block(content: Mapping[str, Any]) -> BlockSensitivity:
    """Raises TypeError or ValueError where a value is not what it should be."""
    found = BlockSensitivity(**content)
    if not isinstance(found.name, str) or not isinstance(found.layers, int) or not found.sqnr_db:
        raise ValueError("a block should have a name, a count of layers and an SQNR")
    for numbers in (found.sqnr_db, found.lost, found.agreement):
        _check_numbers(numbers)
    _check_number(found.start)
    for share in (found.gain, found.gain_high):
        _check_number(share, or_none=True)
    return found


def _check_numbers(values: Any) -> None:
    if not isinstance(values, dict):
        raise TypeError(f"numbers by name were expected; found {type(values).__name__}")
    for value in values.values():
        _check_number(value)


def _check_number(value: Any, *, or_none: bool = False) -> None:
    if not (or_none and value is None) and not is_number(value):
        raise ValueError(f"a number was expected; found {value!r}")


def load_sensitivity(path: Path | None, key: str) -> Sensitivity | None:
    """What an earlier run found, if it was of the same key; None otherwise, and where `path` is None."""
    if path is None or not path.is_file():
        return None
    try:
        found = Sensitivity.from_dict(parse_json(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    return found if found.key == key else None


def save_sensitivity(path: Path | None, result: Sensitivity) -> None:
    """Write `result` as JSON, atomically; nothing where `path` is None. Raises BuildError if it cannot be written."""
    if path is None:
        return
    try:
        write_atomic(path, (json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    except OSError as exc:
        raise BuildError(f"{path} cannot be written {told(exc)}") from exc
