"""Accuracy against cost: which decoders nothing beats in both. Knows rows and latencies; draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtl.study.comparison import Comparison
from mtl.study.timings import Latencies

__all__ = ["Point", "front", "points"]


@dataclass(frozen=True, slots=True)
class Point:
    """One row.

    Attributes:
        cost: milliseconds a frame as INT8, or millions of parameters where latency was not measured.
        gain: delta-m in percent against the single-task models, or the change against the reference where there are none.
        margin: of the gain, in percent; None where unknown.
    """

    name: str
    cost: float
    gain: float
    margin: float | None
    is_latency: bool


def points(compare: Comparison, latencies: Latencies | None) -> list[Point]:
    """Finished rows of the group "decoders", all by latency when it was measured for two of them or more, else by size."""
    results = compare.results
    rows = [row for row in results.in_group("decoders") if row.finished]
    timed = {name: one.median_ms for name, one in latencies.int8().items()} if latencies is not None else {}
    by_latency = sum(row.row.name in timed for row in rows) > 1
    found = []
    for row in rows:
        against = compare.against_single(row)
        if against is None and results.reference is not None:
            against = compare.against(row, results.reference)
        if against is None or (by_latency and row.row.name not in timed):
            continue
        cost = timed[row.row.name] if by_latency else row.parameters / 1e6
        found.append(Point(row.row.name, cost, against.percent, against.margin, by_latency))
    return found


def front(every: Sequence[Point]) -> list[Point]:
    """Points that no other beats in cost and gain, the cheapest first."""
    kept: list[Point] = []
    for point in sorted(every, key=lambda one: (one.cost, -one.gain)):
        if not kept or point.gain > kept[-1].gain:
            kept.append(point)
    return kept
