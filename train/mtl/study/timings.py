"""The latencies of a study as they are kept in its folder. Knows the file; knows nothing about how it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_mtl.files import write_atomic
from mtl.study.toml_tables import StudyError

__all__ = ["Latencies", "RowLatency", "read_latencies", "write_latencies"]


@dataclass(frozen=True, slots=True)
class RowLatency:
    """Medians in milliseconds of one frame through the graph, with their tenth and ninetieth percentiles."""

    name: str
    fp32_ms: float
    int8_ms: float
    fp32_p10_p90_ms: tuple[float, float]
    int8_p10_p90_ms: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Latencies:
    """Everything that was measured in one run, and where.

    Attributes:
        load: mean number of processes that wanted a core in the minute before; much else beside the measurement spoils it.
        asked: digest of what was asked for; another digest means that the numbers are of something else.
    """

    height: int
    width: int
    machine: str
    runtime: str
    threads: int
    rounds: int
    load: float
    date: str
    asked: str
    rows: tuple[RowLatency, ...]


def read_latencies(path: Path) -> Latencies | None:
    """What was measured before; None when nothing was, or the file is of another format."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Latencies(**{**content, "rows": tuple(_row(row) for row in content["rows"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _row(content: Mapping[str, Any]) -> RowLatency:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return RowLatency(**plain)


def write_latencies(path: Path, latencies: Latencies) -> None:
    """Write what was measured. Raises StudyError when that fails."""
    try:
        write_atomic(path, (json.dumps(asdict(latencies), indent=1) + "\n").encode())
    except OSError as exc:
        raise StudyError(f"{path} cannot be written: {exc.strerror}") from exc
