"""What a build did: one row per candidate and the baseline, as values for tables and JSON. Knows nothing about printing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_mtl.engine_store.sidecars import EngineRecord

__all__ = ["BuildReport", "BuildRow"]


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One candidate, or the baseline.

    Attributes:
        precision, backend: what it runs with.
        baseline: whether this is the FP32 graph anyone can run, which ratios and agreement refer to.
        chosen: whether this is the engine that was asked for.
        stored: whether it is in the engine store.
        reason: why it was chosen, or why not, a sentence.
        latency_ms, latency_p90_ms: a whole frame, image to maps; None if it was not timed.
        ratio: how many times faster than the baseline; None if it was not timed.
        size_bytes: of the graph's file.
        agreement: argmax_agreement (0..1), depth_relative_difference, normal_angle_deg, on the labelled frames.
        accuracy: metrics on the labelled frames, see `edge_mtl.evaluation.metrics`.
        self_test: differences on the golden frames.
        weight_bits: of integer weights; 0 for layers in floating point and for plans.
    """

    precision: str
    backend: str
    reason: str
    baseline: bool = False
    chosen: bool = False
    stored: bool = False
    latency_ms: float | None = None
    latency_p90_ms: float | None = None
    ratio: float | None = None
    size_bytes: int = 0
    agreement: Mapping[str, float] = field(default_factory=dict)
    accuracy: Mapping[str, float] = field(default_factory=dict)
    self_test: Mapping[str, Any] = field(default_factory=dict)
    weight_bits: int = 0

    @property
    def name(self) -> str:
        """For tables and sentences: the precision, and the bits of weights where they are not the usual ones."""
        return self.precision if self.weight_bits in (0, 8) else f"{self.precision}, {self.weight_bits}-bit weights"


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What `build_engine` did.

    Attributes:
        record: the engine that was chosen.
        path: its file.
        rows: the baseline first, then every candidate.
        graph: what the chosen graph holds, one line.
        calibration: count, source and digest of the frames, the names of unreadable ones, and "recorded" where statistics
            stood in their place; empty without quantization.
        seconds: from start to end.
        reused: another process built it meanwhile; then rows hold only what the record tells.
        warnings: sentences for people: unreadable images, accuracy that was lost.
    """

    record: EngineRecord
    path: Path
    rows: tuple[BuildRow, ...]
    graph: str
    calibration: Mapping[str, Any]
    seconds: float
    reused: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def baseline(self) -> BuildRow:
        """The row that ratios refer to."""
        return next(row for row in self.rows if row.baseline)

    @property
    def chosen(self) -> BuildRow:
        """The row of the chosen engine."""
        return next(row for row in self.rows if row.chosen)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "key": self.record.key,
            "path": str(self.path),
            "rows": [asdict(row) for row in self.rows],
            "graph": self.graph,
            "calibration": dict(self.calibration),
            "seconds": self.seconds,
            "reused": self.reused,
            "warnings": list(self.warnings),
        }
