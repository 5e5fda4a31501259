"""What a row of times says, and how surely: percentiles, jitter, intervals of medians and ratios, verdicts. Knows numbers only.

Times on a computer have long tails and neighbours resemble each other, so nothing here assumes a bell curve, and
intervals widen where samples are correlated. Outliers are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = [
    "FEWEST_SAMPLES",
    "Distribution",
    "Interval",
    "Verdict",
    "distribution",
    "effective_count",
    "median_interval",
    "ratio_interval",
    "verdict",
]

Verdict = Literal["faster", "slower", "no difference shown"]

FEWEST_SAMPLES = 6
"""Below, no interval of a median covers it in 95 % of cases: all of n samples lie on one side of it with 2^(1-n)."""

_Z = 1.96
"""Standard deviations of a normal distribution that 95 % lie within."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the 95 % confidence interval around it; below `FEWEST_SAMPLES` samples only their range."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Half the interval as a share of the estimate."""
        return (self.high - self.low) / 2 / self.value if self.value else math.inf


@dataclass(frozen=True, slots=True)
class Distribution:
    """Times in milliseconds.

    Attributes:
        p50_sure: 95 % confidence interval of the median.
        jitter_ms: mean absolute difference between one frame and the next, as RFC 3550, section 6.4.1, has it before
            smoothing: how unevenly answers arrive.
    """

    count: int
    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    mean_ms: float
    jitter_ms: float
    p50_sure: tuple[float, float]


def distribution(seconds: Sequence[float]) -> Distribution:
    """Describe times in the order they were measured. Raises ValueError where there are none."""
    times = np.asarray(seconds, np.float64) * 1e3
    if times.size == 0:
        raise ValueError("there are no times to describe")
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    sure = median_interval(times)
    return Distribution(
        count=int(times.size),
        min_ms=float(times.min()),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        max_ms=float(times.max()),
        mean_ms=float(times.mean()),
        jitter_ms=float(np.abs(np.diff(times)).mean()) if times.size > 1 else 0.0,
        p50_sure=(sure.low, sure.high),
    )


def median_interval(samples: Sequence[float] | np.ndarray) -> Interval:
    """The median and its interval from order statistics, for as many samples as are worth counting.

    Any distribution; with fewer than six samples the interval is their whole range. Sources: David & Nagaraja 2003, "Order
    Statistics", section 7.1; correlation as in `effective_count`.
    """
    values = np.asarray(samples, np.float64)
    ordered = np.sort(values)
    share = _Z / math.sqrt(effective_count(values)) / 2
    below = math.floor((0.5 - share) * len(ordered))
    first = max(0, min(below, (len(ordered) - 1) // 2))
    return Interval(float(np.median(ordered)), float(ordered[first]), float(ordered[-1 - first]))


def ratio_interval(reference: Sequence[float] | np.ndarray, samples: Sequence[float] | np.ndarray) -> Interval:
    """How many times faster `samples` are than `reference`, pair by pair: what slowed both of a pair cancels.

    Raises:
        ValueError: they are not pairs.
    """
    if len(reference) != len(samples) or not len(samples):
        raise ValueError(f"expected as many times of the reference as of the other; found {len(reference)} and {len(samples)}")
    tiny = np.finfo(float).tiny
    return median_interval(np.asarray(reference, np.float64) / np.maximum(np.asarray(samples, np.float64), tiny))


def effective_count(samples: Sequence[float] | np.ndarray) -> float:
    """How many independent samples these are worth: n (1 - r) / (1 + r) with r the correlation of neighbours, by rank.

    At least 1, at most n: where neighbours repel each other nothing is gained. Source: Bayley & Hammersley 1946, "The
    effective number of independent observations in an autocorrelated time series", for a first-order process; ranks, so
    that one outlier decides nothing.
    """
    values = np.asarray(samples, np.float64)
    count = len(values)
    if count < 8:
        return float(max(1, count))
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    centred = ranks - ranks.mean()
    neighbours = float((centred[1:] * centred[:-1]).sum() / (centred**2).sum())
    bounded = min(max(neighbours, 0.0), 0.99)
    return max(1.0, count * (1 - bounded) / (1 + bounded))


def verdict(ratio: Interval, *, samples: int | None = None, noise: float = 0.0) -> Verdict:
    """What may be said of a ratio of speeds: nothing, where 1 lies inside its interval or within `noise` of its estimate.

    Args:
        samples: that the interval was made of; below `FEWEST_SAMPLES` nothing is said either. None where there were enough.
        noise: share by which repeated runs differ anyway, e.g. 0.05.
    """
    if samples is not None and samples < FEWEST_SAMPLES:
        return "no difference shown"
    if ratio.low > 1.0 and ratio.value > 1.0 + noise:
        return "faster"
    if ratio.high < 1.0 and ratio.value < 1.0 / (1.0 + noise):
        return "slower"
    return "no difference shown"
