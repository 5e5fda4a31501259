"""Latency of several callables measured side by side: A B A B, medians, ratios round by round.

Knows ratios; knows nothing about engines. A ratio is the median over rounds of two neighbouring measurements, so a slow
minute shifts no ratio; what other guests of the machine take does, and is told (`LatencyReport.disturbed`). Who is called when
is in `edge_mtl.bench.interleaved`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_mtl.bench.conditions import disturbed
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.sensors.state import read_state
from edge_mtl.bench.statistics import ratio_interval

__all__ = ["LatencyReport", "LatencyRow", "measure_interleaved"]


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """What was measured of one callable; times in milliseconds.

    Attributes:
        ratio: how many times faster than the baseline: the median over rounds of baseline / this. 1 for the baseline.
        ratio_low, ratio_high: quartiles of the same: how much single rounds differ.
        ratio_sure: 95 % confidence interval of `ratio` itself, see `edge_mtl.bench.statistics.ratio_interval`.
        count: timed calls.
    """

    name: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    minimum_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ratio_sure: tuple[float, float]
    count: int


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Rows in the order they were given; `baseline` names the one that ratios refer to.

    Attributes:
        disturbed: why the rows show nothing, see `edge_mtl.bench.conditions.disturbed`; empty where they may be used.
    """

    baseline: str
    rows: tuple[LatencyRow, ...]
    disturbed: str = ""

    def __getitem__(self, name: str) -> LatencyRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def fastest(self, names: Sequence[str] | None = None) -> LatencyRow:
        """The row with the highest ratio among `names` (all when not given)."""
        rows = [row for row in self.rows if names is None or row.name in names]
        if not rows:
            raise ValueError(f"none of {list(names or ())} was measured")
        return max(rows, key=lambda row: row.ratio)


def measure_interleaved(
    callables: Mapping[str, Callable[[], object]],
    *,
    baseline: str | None = None,
    rounds: int = 30,
    budget_s: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyReport:
    """Time every callable `rounds` times, interleaved; every other round runs backwards.

    Args:
        callables: by name; each call is one complete unit of work.
        baseline: name that ratios refer to; the first when not given.
        rounds: timed calls of each.
        budget_s: stop early after this many seconds, warm-up included, but never before 3 rounds.
        progress: called with (rounds done, rounds) after each round.
        clock: seconds; only tests give another one.
    Raises:
        ValueError: nothing to measure, an unknown baseline, or fewer than one round.
    """
    if not callables:
        raise ValueError("there is nothing to measure")
    reference = next(iter(callables)) if baseline is None else baseline
    if reference not in callables:
        raise ValueError(f"the baseline {reference!r} is not among {', '.join(callables)}")
    before = read_state().to_dict()
    turns = run_interleaved(callables, rounds=rounds, budget_s=budget_s, progress=progress, clock=clock)
    why = disturbed({"state": {"before": before, "after": read_state().to_dict()}})
    reference_times = np.array(turns[reference].seconds)
    rows = (_row(name, np.array(found.seconds), reference_times) for name, found in turns.items())
    return LatencyReport(reference, tuple(rows), why)


def _row(name: str, times: np.ndarray, reference: np.ndarray) -> LatencyRow:
    tiny = np.finfo(float).tiny
    ratios = reference / np.maximum(times, tiny)
    low, ratio, high = np.percentile(ratios, (25, 50, 75))
    sure = ratio_interval(reference, times)
    milliseconds = times * 1e3
    p10, median, p90 = np.percentile(milliseconds, (10, 50, 90))
    return LatencyRow(
        name=name,
        median_ms=float(median),
        p10_ms=float(p10),
        p90_ms=float(p90),
        minimum_ms=float(milliseconds.min()),
        ratio=float(ratio),
        ratio_low=float(low),
        ratio_high=float(high),
        ratio_sure=(sure.low, sure.high),
        count=len(times),
    )
