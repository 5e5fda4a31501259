"""How good depth is: errors in metres and as shares of the true depth, and all that the field reports besides.

Errors are global means over valid pixels, not means of per-image means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_mtl.tasks.label_metric import same_shape

if TYPE_CHECKING:
    from edge_mtl.tasks.depth import DepthMap

__all__ = ["DepthMetric", "FullDepthMetric"]

Array = np.ndarray

_FACTOR = 1.25
_LEAST_M = 1e-3
"""Nearer answers, and those that are not above 0, count as this in logarithms."""


class DepthMetric:
    """Errors of metric depth as global means over valid pixels.

    Definitions: LibMTL's NYUv2 example, after Eigen & Fergus 2015. A pixel without a finite prediction is counted in
    `missing` (there everything becomes NaN).
    """

    def __init__(self) -> None:
        self._sums = np.zeros(4, np.float64)
        self._count = 0
        self.missing = 0
        """Valid target pixels for which nothing finite was predicted; excluded from the errors."""

    def update(self, result: DepthMap, truth: Array) -> None:
        """Add a result and its truth, (..., H, W) metres; what is not above 0 is unknown."""
        self.add(result.depth_m, truth)

    def add(self, predicted: Array, target: Array, valid: Array | None = None) -> None:
        """Add depth maps of equal shape in metres.

        Args:
            predicted: depth; NaN or Inf where unknown. A depth of 0 or below is an answer, and a wrong one.
            target: true depth; 0, negative, NaN or Inf where invalid.
            valid: bool, which pixels count besides (default: all).
        """
        same_shape(predicted, target)
        guess, truth = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
        known = np.isfinite(truth) & (truth > 0)
        if valid is not None:
            known &= np.asarray(valid, bool)
        answered = known & np.isfinite(guess)
        self.missing += int(known.sum()) - int(answered.sum())
        guess, truth = guess[answered], truth[answered]
        self._sums += _errors(guess, truth)
        self._count += guess.size

    def compute(self) -> dict[str, float]:
        """depth_abs_m, depth_rel (share of the true depth), depth_rmse_m, depth_delta1 (share within a factor 1.25)."""
        return _means(self._sums, self._count)

    def statistics(self) -> tuple[float, int]:
        """Sum of |error| / truth, and pixels."""
        return float(self._sums[1]), self._count

    def details(self) -> dict[str, Any]:
        return {}


class FullDepthMetric(DepthMetric):
    """As `DepthMetric`, with the field's other measures in `details`, in metres as they are and after median scaling.

    `update` and `add` take whole frames: with median scaling the answers of each frame are multiplied by median(truth) /
    median(answer) over its valid pixels, so that only the shape of the scene counts. A frame whose median answer is not above 0
    stays as it is.

    Sources: shares within 1.25, 1.25^2 and 1.25^3 (delta1 to delta3) and RMSE: Eigen, Puhrsch & Fergus 2014, "Depth Map
    Prediction from a Single Image using a Multi-Scale Deep Network"; mean |log10 error|: Saxena, Sun & Ng 2009,
    "Make3D"; median scaling: Zhou et al. 2017, "Unsupervised Learning of Depth and Ego-Motion from Video".
    """

    def __init__(self) -> None:
        super().__init__()
        self._scaled = np.zeros(4, np.float64)
        self._more, self._scaled_more = np.zeros(3, np.float64), np.zeros(3, np.float64)

    def add(self, predicted: Array, target: Array, valid: Array | None = None) -> None:
        super().add(predicted, target, valid)
        guesses, truths = (np.asarray(one, np.float64).reshape(-1, *np.shape(one)[-2:]) for one in (predicted, target))
        shown = np.ones(truths.shape, bool) if valid is None else np.asarray(valid, bool).reshape(truths.shape)
        for guess, truth, counted in zip(guesses, truths, shown, strict=True):
            known = counted & np.isfinite(truth) & (truth > 0) & np.isfinite(guess)
            if not known.any():
                continue
            here, there = guess[known], truth[known]
            self._more += _other_errors(here, there)
            middle = float(np.median(here))
            scaled = here * (float(np.median(there)) / middle) if middle > 0 else here
            self._scaled += _errors(scaled, there)
            self._scaled_more += _other_errors(scaled, there)

    def details(self) -> dict[str, Any]:
        """depth_delta2, depth_delta3, depth_log10; depth_median_scaled: these and those of `compute`, after median scaling.

        Empty where nothing was valid.
        """
        if not self._count:
            return {}
        scaled = {**_means(self._scaled, self._count), **_other_means(self._scaled_more, self._count)}
        return {**_other_means(self._more, self._count), "depth_median_scaled": scaled}


def _errors(guess: Array, truth: Array) -> Array:
    """(4,) sums over pixels, (P,) each: |error|, |error| / truth, error^2, within a factor 1.25."""
    error = np.abs(guess - truth)
    near = (guess < _FACTOR * truth) & (truth < _FACTOR * guess)
    return np.array([error.sum(), (error / truth).sum(), (error * error).sum(), near.sum()], np.float64)


def _means(sums: Array, count: int) -> dict[str, float]:
    absolute, relative, square, near = (float(value) for value in (sums / count if count else np.full(4, np.nan)))
    return {
        "depth_abs_m": absolute,
        "depth_rel": relative,
        "depth_rmse_m": float(np.sqrt(square)),
        "depth_delta1": near,
    }


def _other_errors(guess: Array, truth: Array) -> Array:
    """(3,) sums over pixels: within a factor 1.25^2, within 1.25^3, |log10 of the ratio|."""
    within = [((guess < factor * truth) & (truth < factor * guess)).sum() for factor in (_FACTOR**2, _FACTOR**3)]
    logarithm = np.abs(np.log10(np.maximum(guess, _LEAST_M)) - np.log10(truth)).sum()
    return np.array([*within, logarithm], np.float64)


def _other_means(sums: Array, count: int) -> dict[str, float]:
    delta2, delta3, logarithm = (float(value) / count for value in sums)
    return {"depth_delta2": delta2, "depth_delta3": delta3, "depth_log10": logarithm}
