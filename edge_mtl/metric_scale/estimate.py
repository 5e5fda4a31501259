"""From readings of many pixels and frames to one factor, its interval, and the refusal where no one factor fits.

Knows ratios; knows nothing about where they come from. Everything is done with logarithms: a factor of two too far and one of
two too near are equally wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_mtl.depth_scale import PLAUSIBLE
from edge_mtl.errors import DepthScaleError

__all__ = ["MAX_SPREAD", "Readings", "ScaleEstimate", "estimate_scale"]

Array = np.ndarray

MAX_SPREAD = 1.6
"""Upper over lower quartile of the ratios beyond which one factor does not describe them."""

_ENOUGH_FRAMES = 6
"""The fewest values between the lowest and highest of which the median lies with more than 95 % (1 - 2 / 2^6)."""
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
"""0.975 quantiles of Student's t by degrees of freedom, for fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Distances in one frame that are known and predicted.

    Attributes:
        frame: its name.
        true_m, predicted_m: (N,) float metres, positive and finite, of the same pixels.
        block: (N,) int; readings with one number are neighbours and not independent. A block is the unit of the interval
            where there are few frames.
    """

    frame: str
    true_m: Array
    predicted_m: Array
    block: Array

    @property
    def log_ratios(self) -> Array:
        """(N,) float64 logarithms of true over predicted."""
        return np.log(np.asarray(self.true_m, np.float64)) - np.log(np.asarray(self.predicted_m, np.float64))


@dataclass(frozen=True, slots=True)
class ScaleEstimate:
    """What readings say.

    Attributes:
        factor: true over predicted: the median over `units` of their medians.
        interval: of 95 %, for the median of units like these; None where there is one unit only.
        units: "frames", or "blocks" of neighbouring readings where there are fewer than six frames: the interval then says
            nothing about other frames.
        spread: upper over lower quartile of all ratios, every frame counted alike.
        frames, readings: how many there are.
        error_before, error_after: mean relative error of the readings as predicted, and each frame with the factor that the
            other frames give; of one frame, with its own. It weighs what is predicted too far more than what is too near.
        off_before, off_after: median factor, 1 or above, by which readings are off either way, likewise.
    """

    factor: float
    interval: tuple[float, float] | None
    units: str
    spread: float
    frames: int
    readings: int
    error_before: float
    error_after: float
    off_before: float
    off_after: float


def estimate_scale(found: Sequence[Readings], *, max_spread: float = MAX_SPREAD) -> ScaleEstimate:
    """The factor that the readings of all frames say together.

    Args:
        found: of each frame; those without readings are left out.
        max_spread: refuse above this spread.
    Raises:
        DepthScaleError: there are no readings, they do not agree on one factor, or the factor is not plausible.
    """
    frames = [readings for readings in found if len(readings.true_m)]
    if not frames:
        raise DepthScaleError("No frame has a reading of a true distance: there is nothing to find a scale from.")
    ratios = [readings.log_ratios for readings in frames]
    spread = math.exp(_quartile_range(ratios))
    if spread > max_spread:
        raise DepthScaleError(
            f"The readings do not agree on one factor: the middle half of true over predicted spans a factor of {spread:.2f}, "
            f"at most {max_spread:g} was expected. Check units, time stamps and that the depth is registered to the camera; "
            "leave out frames of another place; or accept it with --max-spread."
        )
    by_frame = len(frames) >= _ENOUGH_FRAMES
    units = np.array([np.median(each) for each in (ratios if by_frame else _by_block(frames, ratios))])
    factor = math.exp(float(np.median(units)))
    low, high = PLAUSIBLE
    if not low <= factor <= high:
        raise DepthScaleError(
            f"True distances are {factor:.3g} times the predicted ones; {low:g} to {high:g} was expected. Check the unit of "
            "the true distances: metres, or millimetres of 16-bit depth."
        )
    between = _median_interval(units)
    none, others = [0.0] * len(frames), _of_the_others(ratios)
    return ScaleEstimate(
        factor=factor,
        interval=None if between is None else (math.exp(between[0]), math.exp(between[1])),
        units="frames" if by_frame else "blocks",
        spread=spread,
        frames=len(frames),
        readings=sum(each.size for each in ratios),
        error_before=_mean_error(ratios, none),
        error_after=_mean_error(ratios, others),
        off_before=_median_off(ratios, none),
        off_after=_median_off(ratios, others),
    )


def _by_block(frames: Sequence[Readings], ratios: Sequence[Array]) -> list[Array]:
    """The values of each block of each frame."""
    pairs = zip(frames, ratios, strict=True)
    return [each[readings.block == block] for readings, each in pairs for block in np.unique(readings.block)]


def _of_the_others(ratios: Sequence[Array]) -> list[float]:
    """For each frame, the logarithm of the factor that the other frames give; for one frame its own."""
    medians = np.array([np.median(each) for each in ratios])
    if medians.size == 1:
        return [float(medians[0])]
    return [float(np.median(np.delete(medians, index))) for index in range(medians.size)]


def _mean_error(ratios: Sequence[Array], shifts: Sequence[float]) -> float:
    """Mean relative error of the frames with their factors, each frame counted alike."""
    return float(np.mean([np.abs(np.exp(shift - each) - 1.0).mean() for each, shift in zip(ratios, shifts, strict=True)]))


def _median_off(ratios: Sequence[Array], shifts: Sequence[float]) -> float:
    """The median over frames of the median factor by which values are off with their factors."""
    return math.exp(float(np.median([np.median(np.abs(each - shift)) for each, shift in zip(ratios, shifts, strict=True)])))


def _quartile_range(ratios: Sequence[Array]) -> float:
    """Between the quartiles of all values, each frame with the same weight however many it has."""
    values = np.concatenate(ratios)
    weights = np.concatenate([np.full(each.size, 1.0 / each.size) for each in ratios])
    order = np.argsort(values)
    at = (np.cumsum(weights[order]) - 0.5 * weights[order]) / weights.sum()
    lower, upper = np.interp((0.25, 0.75), at, values[order])
    return float(upper - lower)


def _median_interval(values: Array) -> tuple[float, float] | None:
    """A 95 % interval of the median: between two order statistics, exact for any distribution; by Student's t below six."""
    count = values.size
    if count < 2:
        return None
    if count < _ENOUGH_FRAMES:
        half = _STUDENT[count - 1] * float(values.std(ddof=1)) / math.sqrt(count)
        return float(values.mean()) - half, float(values.mean()) + half
    outside, below = 1.0 / 2.0**count if count < 1000 else 0.0, 0
    term = outside
    while below + 1 < count // 2 and count < 1000:
        term *= (count - below) / (below + 1)
        if outside + term > 0.025:
            break
        outside, below = outside + term, below + 1
    if count >= 1000:
        below = max(0, math.floor(0.5 * count - 0.98 * math.sqrt(count)) - 1)
    ordered = np.sort(values)
    return float(ordered[below]), float(ordered[count - 1 - below])
