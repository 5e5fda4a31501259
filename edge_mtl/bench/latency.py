"""Latency of several callables measured side by side: A B A B, medians, ratios round by round.

Knows clocks; knows nothing about engines. Interleaving makes whatever else the machine does hit all of them alike, and
a ratio is the median over rounds of two neighbouring measurements, so a slow minute shifts no ratio. The runtimes'
thread pools disturb each other when they take turns (idle threads spin for a while, caches are cold), so every timed
call follows an untimed one of the same callable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LatencyReport", "LatencyRow", "measure_interleaved"]

_STEADY = 0.05
_WARM_UP_CALLS = (3, 20)


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """What was measured of one callable; times in milliseconds.

    Attributes:
        ratio: how many times faster than the baseline: the median over rounds of baseline / this. 1 for the baseline.
        ratio_low, ratio_high: quartiles of the same: how much single rounds differ.
        ratio_sure: 95 % confidence interval of `ratio` itself, from order statistics (David & Nagaraja 2003, "Order
            Statistics", section 7.1): rounds are taken as independent, of any distribution.
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
    """Rows in the order they were given; `baseline` names the one that ratios refer to."""

    baseline: str
    rows: tuple[LatencyRow, ...]

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
    """Time every callable `rounds` times, taking turns; every other round runs backwards.

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
    if rounds < 1:
        raise ValueError(f"rounds should be at least 1; found {rounds}")
    start = clock()
    names = list(callables)
    for name in names:
        _warm_up(callables[name], clock)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            call = callables[name]
            call()
            begin = clock()
            call()
            times[name].append(clock() - begin)
        if progress is not None:
            progress(number + 1, rounds)
        if budget_s is not None and number >= 2 and clock() - start > budget_s:
            break
    reference_times = np.array(times[reference])
    return LatencyReport(reference, tuple(_row(name, np.array(times[name]), reference_times) for name in names))


def _warm_up(call: Callable[[], object], clock: Callable[[], float]) -> None:
    """Call until three calls in a row take about as long as the fastest so far, within limits."""
    fewest, most = _WARM_UP_CALLS
    fastest, steady = 0.0, 0
    for number in range(most):
        begin = clock()
        call()
        elapsed = clock() - begin
        steady = steady + 1 if abs(elapsed - fastest) <= _STEADY * fastest else 0
        fastest = min(fastest, elapsed) if number else elapsed
        if number + 1 >= fewest and steady >= 2:
            return


def _row(name: str, times: np.ndarray, reference: np.ndarray) -> LatencyRow:
    tiny = np.finfo(float).tiny
    ratios = np.sort(reference / np.maximum(times, tiny))
    low, ratio, high = np.percentile(ratios, (25, 50, 75))
    outside = max(0, int((len(ratios) - 1.96 * len(ratios) ** 0.5) / 2))
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
        ratio_sure=(float(ratios[outside]), float(ratios[-1 - outside])),
        count=len(times),
    )
