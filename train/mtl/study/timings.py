"""The latencies of a study as they are kept in its folder. Knows the file; knows nothing about how it was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_mtl.documents import parse_json
from edge_mtl.files import write_atomic
from edge_mtl.remedies import told
from mtl.study.toml_tables import StudyError

__all__ = ["EngineLatency", "Latencies", "RowLatency", "read_latencies", "write_latencies"]


@dataclass(frozen=True, slots=True)
class EngineLatency:
    """One frame through one row's graph in one runtime and precision.

    Attributes:
        engine: the precision and the runtime, as "int8 on onnxruntime".
        median_ms, p10_p90_ms: milliseconds: the median, the tenth and the ninetieth percentile.
        ratio: how many times faster than the first row is in the same engine, call by neighbouring call: its median.
        ratio_sure: 95 % confidence interval of `ratio`, see `edge_mtl.bench.statistics.ratio_interval`.
    """

    engine: str
    median_ms: float
    p10_p90_ms: tuple[float, float]
    ratio: float
    ratio_sure: tuple[float, float]


@dataclass(frozen=True, slots=True)
class RowLatency:
    """All engines of one row, in the same order for every row.

    Attributes:
        gmacs: 10^9 multiplications with an addition of a frame, see `mtl.study.latency.giga_macs`; 0 where nobody counted.
    """

    name: str
    engines: tuple[EngineLatency, ...]
    gmacs: float = 0.0

    def __getitem__(self, engine: str) -> EngineLatency:
        for one in self.engines:
            if one.engine == engine:
                return one
        raise KeyError(engine)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Everything that was measured in one run, and where.

    Attributes:
        runtimes: names with versions.
        load: mean number of processes that wanted a core in the minute before; much else beside the measurement spoils it.
        asked: digest of what was asked for; another digest means that the numbers are of something else.
    """

    height: int
    width: int
    machine: str
    runtimes: tuple[str, ...]
    threads: int
    rounds: int
    load: float
    date: str
    asked: str
    rows: tuple[RowLatency, ...]

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that every row was timed in."""
        return tuple(one.engine for one in self.rows[0].engines)

    @property
    def int8_engine(self) -> str:
        """The engine whose layers are integers that is fastest here: the lowest product of all rows' medians."""
        integers = [name for name in self.engines if name.startswith("int8")]
        return min(integers, key=lambda name: math.prod(row[name].median_ms for row in self.rows))

    def int8(self) -> dict[str, EngineLatency]:
        """Every row in that engine, by name."""
        engine = self.int8_engine
        return {row.name: row[engine] for row in self.rows}


def read_latencies(path: Path) -> Latencies | None:
    """What was measured before; None when nothing was, or the file is of another format."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        rows = tuple(
            RowLatency(row["name"], tuple(_engine(one) for one in row["engines"]), float(row.get("gmacs", 0.0)))
            for row in content["rows"]
        )
        return Latencies(**{**content, "runtimes": tuple(content["runtimes"]), "rows": rows}) if rows else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _engine(content: Mapping[str, Any]) -> EngineLatency:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return EngineLatency(**plain)


def write_latencies(path: Path, latencies: Latencies) -> None:
    """Write what was measured. Raises StudyError when that fails."""
    try:
        write_atomic(path, (json.dumps(asdict(latencies), indent=1) + "\n").encode())
    except OSError as exc:
        raise StudyError(f"{path} cannot be written {told(exc)}") from exc
