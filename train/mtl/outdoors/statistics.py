"""Whether a score tells right from wrong, how honest a confidence is, and what is left of a measure: plain numbers.

Knows arrays; knows nothing about networks, tasks or frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = [
    "Interval",
    "auroc",
    "auroc_of_counts",
    "calibration_error",
    "draws",
    "interval",
    "mean_under_corruption",
    "spearman",
]

Array = np.ndarray
_PERCENTILES = (2.5, 97.5)


class Interval:
    """A value of all frames with the 95 % interval that drawing the frames again gives it."""

    __slots__ = ("high", "low", "value")

    def __init__(self, value: float, low: float, high: float) -> None:
        self.value, self.low, self.high = value, low, high

    def as_list(self) -> list[float | None]:
        """[value, low, high] for JSON; what is not finite is None."""
        return [one if np.isfinite(one) else None for one in (self.value, self.low, self.high)]


def auroc(scores: Array, positive: Array) -> float:
    """How often a positive has the higher score of a random pair of a positive and a negative; ties count half.

    Args:
        scores: (N,), any numbers; only their order counts.
        positive: (N,) bool.
    Returns:
        0..1, 0.5 for chance; NaN where there are no positives, or nothing else.
    Source: Hanley & McNeil 1982: the area under the ROC curve is the statistic of Mann & Whitney.
    """
    chosen = np.asarray(positive, bool)
    ones, zeros = int(chosen.sum()), int((~chosen).sum())
    if not ones or not zeros:
        return float("nan")
    below = ones * (ones - 1) / 2
    return float((_ranks(np.asarray(scores))[chosen].sum() - below) / (ones * zeros))


def auroc_of_counts(positive: Array, negative: Array) -> Array:
    """As `auroc`, of counts in bins of rising score, (..., B) each; pairs within a bin count half. Returns (...)."""
    below = np.cumsum(negative, axis=-1) - 0.5 * negative
    pairs = positive.sum(axis=-1) * negative.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.where(pairs > 0, (positive * below).sum(axis=-1) / pairs, np.nan)
    return found


def calibration_error(sums: Array) -> Array:
    """Expected calibration error of (..., 3, B): how many answers a bin has, their confidence added up, how many are right.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    total = sums[..., 0, :].sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap: Array = np.abs(sums[..., 1, :] - sums[..., 2, :]).sum(axis=-1) / total
    return gap


def mean_under_corruption(values: Mapping[tuple[str, int], Array]) -> Array:
    """mPC: the mean over severities, then over kinds; `values` by kind and severity, arrays of one shape.

    Divided by the clean value it is rPC. Source: Michaelis et al. 2019, "Benchmarking Robustness in Object Detection",
    arXiv:1907.07484, equations 1 and 2.
    """
    kinds: dict[str, list[Array]] = {}
    for (kind, _), value in values.items():
        kinds.setdefault(kind, []).append(np.asarray(value, np.float64))
    found: Array = np.mean([np.mean(one, axis=0) for one in kinds.values()], axis=0)
    return found


def draws(frames: int, *, count: int = 1000, seed: int = 0) -> Array:
    """(1 + count, F) weights of frames: all of them once, then draws with replacement.

    Sets of as many frames get the same draws, so that what a street does to both of two domains cancels in their ratio.
    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    drawn = np.random.default_rng(seed).multinomial(frames, np.full(frames, 1 / frames), count)
    return np.vstack([np.ones(frames), drawn]).astype(np.float64)


def interval(values: Array) -> Interval:
    """From a measure under `draws`: the first is its value."""
    known = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(known, _PERCENTILES) if known.size else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))


def spearman(first: Array, second: Array) -> float:
    """Rank correlation, -1..1; ties share their mean rank. NaN where one of them is constant."""
    one, other = _ranks(np.asarray(first)), _ranks(np.asarray(second))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: Array) -> Array:
    """(N,) float64 ranks from 0; equal values get their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Array = ((ends - counts + ends - 1) / 2.0)[where.ravel()]
    return ranks
