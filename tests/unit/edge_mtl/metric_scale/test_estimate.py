"""One factor from many readings: outliers, intervals that cover, and refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edge_mtl.errors import DepthScaleError
from edge_mtl.metric_scale.estimate import Readings, estimate_scale


def readings(
    random: np.random.Generator, factor: float, *, name: str = "f", count: int = 400, noise: float = 0.1, outliers: float = 0.0
) -> Readings:
    """Predicted depths and what is true: `factor` times as far, with noise, and a share that is anything."""
    predicted = random.uniform(0.5, 5.0, count)
    true = predicted * factor * np.exp(random.normal(0.0, noise, count))
    wild = random.random(count) < outliers
    true[wild] = random.uniform(0.2, 40.0, int(wild.sum()))
    return Readings(name, true, predicted, np.arange(count) * 16 // count)


def test_the_factor_is_found_among_a_quarter_of_outliers() -> None:
    random = np.random.default_rng(1)
    found = estimate_scale([readings(random, 1.28, name=str(index), outliers=0.25) for index in range(8)], max_spread=3.0)
    assert found.factor == pytest.approx(1.28, rel=0.03)
    mean = np.exp(np.mean(np.concatenate([readings(random, 1.28, outliers=0.25).log_ratios for _ in range(8)])))
    assert abs(mean / 1.28 - 1.0) > 0.05, "the outliers are bad enough to mislead a mean"
    assert (found.frames, found.readings, found.units) == (8, 3200, "frames")


def test_a_frame_counts_once_however_many_readings_it_has() -> None:
    few = [Readings(str(index), np.full(10, 2.0), np.full(10, 1.0), np.zeros(10, int)) for index in range(6)]
    many = Readings("many", np.full(5000, 3.0), np.full(5000, 1.0), np.zeros(5000, int))
    assert estimate_scale([*few, many]).factor == pytest.approx(2.0)


@pytest.mark.parametrize("frames", [2, 3, 5, 6, 7, 12, 40])
def test_intervals_cover_the_factor_as_often_as_they_say(frames: int) -> None:
    """Frames differ by a factor of their own, as rooms do; 600 trials of a share of 0.95 lie above 0.925 but for 1 in 300."""
    random, covered, trials = np.random.default_rng(frames), 0, 600
    for _ in range(trials):
        own = 1.28 * np.exp(random.normal(0.0, 0.15, frames))
        found = [Readings("f", np.full(3, factor), np.ones(3), np.zeros(3, int)) for factor in own]
        low, high = interval_of(found)
        covered += low <= 1.28 <= high
    assert covered / trials >= 0.925


def interval_of(found: list[Readings]) -> tuple[float, float]:
    interval = estimate_scale(found, max_spread=10.0).interval
    assert interval is not None
    return interval


def test_more_frames_say_more() -> None:
    random = np.random.default_rng(4)
    widths = []
    for count in (8, 40, 400, 1500):
        factors = 1.3 * np.exp(random.normal(0.0, 0.2, count))
        low, high = interval_of([Readings("f", np.full(1, each), np.ones(1), np.zeros(1, int)) for each in factors])
        assert low < 1.3 < high
        widths.append(math.log(high / low))
    assert widths == sorted(widths, reverse=True)


def test_one_reading_has_no_interval_and_few_frames_are_taken_by_blocks() -> None:
    one = estimate_scale([Readings("f", np.array([2.56]), np.array([2.0]), np.array([0]))])
    assert (one.factor, one.interval, one.units) == (pytest.approx(1.28), None, "blocks")
    some = estimate_scale([readings(np.random.default_rng(2), 1.5)])
    assert some.units == "blocks"
    assert some.interval is not None
    assert some.interval[0] < 1.5 < some.interval[1]


def test_readings_that_do_not_agree_are_refused_and_taken_where_that_is_asked_for() -> None:
    random = np.random.default_rng(3)
    rooms = [readings(random, factor, name=str(factor)) for factor in (0.8, 1.0, 2.0, 2.4, 0.9, 2.2)]
    with pytest.raises(DepthScaleError, match=r"do not agree on one factor.*at most 1\.6.*--max-spread"):
        estimate_scale(rooms)
    assert 0.9 < estimate_scale(rooms, max_spread=4.0).factor < 2.2
    assert estimate_scale([readings(random, 1.3, noise=0.2)]).spread == pytest.approx(math.exp(1.349 * 0.2), rel=0.1)


def test_an_implausible_factor_is_refused_with_the_likely_cause() -> None:
    with pytest.raises(DepthScaleError, match="millimetres"):
        estimate_scale([readings(np.random.default_rng(0), 1000.0)])


def test_no_readings_are_refused() -> None:
    for nothing in ([], [Readings("f", np.zeros(0), np.zeros(0), np.zeros(0, int))]):
        with pytest.raises(DepthScaleError, match="No frame has a reading"):
            estimate_scale(nothing)


def test_each_frame_is_judged_with_the_factor_of_the_others() -> None:
    """Two rooms whose factors differ: what helps one harms the other, and that is said."""
    first, second = (Readings("f", np.full(3, factor), np.ones(3), np.zeros(3, int)) for factor in (1.5, 0.75))
    found = estimate_scale([first, second], max_spread=9.0)
    assert (found.error_before, found.off_before) == (pytest.approx((0.5 / 1.5 + 0.25 / 0.75) / 2), pytest.approx(2**0.5))
    assert (found.error_after, found.off_after) == (pytest.approx((0.5 + 1.0) / 2), pytest.approx(2.0))


def test_errors_are_of_the_readings_before_and_after() -> None:
    values: Any = np.array([1.0, 2.0])
    found = estimate_scale([Readings("f", 2.0 * values, values, np.arange(2))])
    assert (found.error_before, found.error_after) == (pytest.approx(0.5), pytest.approx(0.0, abs=1e-12))
    assert (found.off_before, found.off_after) == (pytest.approx(2.0), pytest.approx(1.0))
