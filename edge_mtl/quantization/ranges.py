"""Ranges of activations, chosen from their histograms by one of several methods. Knows no graphs and runs nothing.

Each method cuts the tails of a histogram in its own way; see `edge_mtl.quantization.statistics` for where they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge_mtl.errors import CalibrationError
from edge_mtl.quantization.recipes import Activations
from edge_mtl.quantization.statistics import Histogram

__all__ = ["Range", "choose_range"]

Array = np.ndarray

_LEVELS = 256
_CUTS = np.linspace(1.0, 0.3, 36)
"""Candidate ranges of the searching methods, as shares of the full range."""


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value that a tensor is to represent; 0 lies between them."""

    low: float
    high: float

    @property
    def reach(self) -> float:
        """Largest magnitude: half the width of the symmetric range that holds this one."""
        return max(-self.low, self.high)


def choose_range(name: str, histogram: Histogram, settings: Activations) -> Range:
    """The range of tensor `name`.

    Raises:
        CalibrationError: the tensor has one value only.
    """
    if histogram.low == histogram.high:
        raise CalibrationError(
            f"Activation {name} is {histogram.low:g} everywhere on all calibration frames: a range cannot be learnt. "
            "Give more and different images; to build-engine with --calibration DIR."
        )
    low, high = _METHODS[settings.method](*histogram.occupied(), settings)
    return Range(min(float(low), 0.0), max(float(high), 0.0))


def _extremes(counts: Array, edges: Array, settings: Activations) -> tuple[float, float]:
    return edges[0], edges[-1]


def _percentile(counts: Array, edges: Array, settings: Activations) -> tuple[float, float]:
    """Cut the same share of values from both tails together."""
    cumulative = np.cumsum(counts) / counts.sum()
    share = 1.0 - settings.percentile / 100.0
    first = int(np.searchsorted(cumulative, share / 2, side="right"))
    last = int(np.searchsorted(cumulative, 1.0 - share / 2, side="left"))
    return edges[min(first, len(counts) - 1)], edges[min(last, len(counts) - 1) + 1]


def _mean_squared_error(counts: Array, edges: Array, settings: Activations) -> tuple[float, float]:
    """The range with the least expected squared error: rounding inside, clipping outside; each end searched in turn."""
    centres = (edges[:-1] + edges[1:]) / 2

    def error(low: float, high: float) -> float:
        clipped = np.clip(centres, low, high) - centres
        step = (high - low) / (_LEVELS - 1)
        inside = (centres >= low) & (centres <= high)
        return float((counts * (clipped**2 + inside * step**2 / 12)).sum())

    low, high = min(edges[0], 0.0), max(edges[-1], 0.0)
    for _ in range(2):
        high = min((high * cut for cut in _CUTS), key=lambda end: error(low, end)) if high > 0 else high
        low = min((low * cut for cut in _CUTS), key=lambda end: error(end, high)) if low < 0 else low
    return low, high


def _entropy(counts: Array, edges: Array, settings: Activations) -> tuple[float, float]:
    """The range whose 256 levels keep the most information (Kullback-Leibler), as in Migacz, GTC 2017.

    Zero is represented exactly by every range, so the bin that holds it counts no more than the larger of its neighbours:
    behind a ReLU it would outweigh everything else, and any cut would do.
    """
    low, high = edges[0], edges[-1]
    zero = int(np.clip(np.searchsorted(edges, 0.0, side="right") - 1, 0, len(counts) - 1))
    beside = [counts[at] for at in (zero - 1, zero + 1) if 0 <= at < len(counts)]
    counts = counts.copy()
    counts[zero] = min([counts[zero], max(beside)]) if beside else counts[zero]
    best, chosen = np.inf, (low, high)
    for cut in _CUTS:
        inside = (edges[:-1] >= low * cut - 1e-12) & (edges[1:] <= high * cut + 1e-12)
        if low >= 0:
            inside = edges[1:] <= high * cut + 1e-12
        first, last = int(inside.argmax()), len(inside) - int(inside[::-1].argmax())
        reference = counts[first:last].copy()
        if len(reference) < _LEVELS or not reference.any():
            continue
        reference[0] += counts[:first].sum()
        reference[-1] += counts[last:].sum()
        level = np.arange(len(reference)) * _LEVELS // len(reference)
        filled = counts[first:last] > 0
        mass = np.bincount(level, counts[first:last], _LEVELS)
        width = np.maximum(np.bincount(level, filled, _LEVELS), 1)
        model = np.where(filled, (mass / width)[level], 0.0)
        divergence = _divergence(reference, model)
        if divergence < best:
            best, chosen = divergence, (edges[first], edges[last])
    return chosen


def _divergence(reference: Array, model: Array) -> float:
    """Kullback-Leibler divergence of two histograms, both smoothed a little so that empty bins stay finite."""
    p, q = reference + 1e-9 * reference.sum(), model + 1e-9 * reference.sum()
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


_METHODS: Mapping[str, Callable[[Array, Array, Activations], tuple[float, float]]] = {
    "minmax": _extremes,
    "percentile": _percentile,
    "mse": _mean_squared_error,
    "entropy": _entropy,
}
