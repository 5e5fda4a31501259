"""Percentiles, intervals and verdicts: what they promise on numbers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from edge_mtl.bench.report import differences
from edge_mtl.bench.statistics import (
    FEWEST_SAMPLES,
    Interval,
    distribution,
    effective_count,
    median_interval,
    ratio_interval,
    verdict,
)


def test_a_distribution_keeps_its_outlier() -> None:
    found = distribution([0.010] * 99 + [0.500])
    assert found.count == 100
    assert found.p50_ms == pytest.approx(10.0)
    assert found.max_ms == pytest.approx(500.0)
    assert found.mean_ms == pytest.approx(14.9)
    assert found.jitter_ms == pytest.approx(490 / 99)
    with pytest.raises(ValueError, match="no times"):
        distribution([])


def test_the_interval_of_a_median_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = sum(
        interval.low <= 1.0 <= interval.high
        for interval in (median_interval(random.lognormal(0.0, 0.5, 40)) for _ in range(300))
    )
    assert 270 <= held <= 300, "285 of 300 expected"


def test_neighbours_that_resemble_each_other_widen_the_interval() -> None:
    random = np.random.default_rng(2)
    slow = np.repeat(random.normal(1.0, 0.1, 20), 10)
    mixed = random.permutation(slow)
    assert effective_count(slow) < effective_count(mixed) / 3
    wide, narrow = median_interval(slow), median_interval(mixed)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_few_samples_give_their_whole_range() -> None:
    found = median_interval([3.0, 1.0, 2.0])
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)
    assert median_interval([2.0]).low == 2.0


def test_a_ratio_cancels_what_slowed_both_of_a_pair() -> None:
    load = np.linspace(1.0, 5.0, 50)
    found = ratio_interval(0.020 * load, 0.010 * load)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="found 2 and 1"):
        ratio_interval([1.0, 2.0], [1.0])


def test_a_difference_is_called_where_it_is_larger_than_the_noise_and_refused_where_it_is_not() -> None:
    random = np.random.default_rng(3)
    times = {
        "base": 0.020 * random.lognormal(0.0, 0.05, 60),
        "same": 0.020 * random.lognormal(0.0, 0.05, 60),
        "fast": 0.010 * random.lognormal(0.0, 0.05, 60),
    }
    assert verdict(ratio_interval(times["base"], times["fast"])) == "faster"
    assert verdict(ratio_interval(times["fast"], times["base"])) == "slower"
    assert verdict(ratio_interval(times["base"], times["same"])) == "no difference shown"
    assert verdict(Interval(1.03, 1.01, 1.05)) == "faster"
    assert verdict(Interval(1.03, 1.01, 1.05), noise=0.05) == "no difference shown"
    first, second = differences(times)
    assert (first.first, first.verdict) == ("fast", "faster")
    assert {second.first, second.second} == {"base", "same"}
    assert second.verdict == "no difference shown"


def test_fewer_than_six_samples_show_no_difference_and_six_may() -> None:
    for count, expected in ((1, "no difference shown"), (5, "no difference shown"), (6, "faster")):
        slow, fast = [0.020] * count, [0.010] * count
        assert verdict(ratio_interval(slow, fast), samples=count) == expected
        (found,) = differences({"slow": slow, "fast": fast})
        assert (found.first, found.verdict) == ("fast", expected)
    assert 2 * 0.5**FEWEST_SAMPLES < 0.05 < 2 * 0.5 ** (FEWEST_SAMPLES - 1), "where the range begins to hold the median in 95 %"
