"""Interleaved measurement: who is called when, and what ratios mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge_mtl.bench import measure_interleaved


class Clock:
    """A clock that only moves when work is done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: Callable[[int], float]) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now += seconds(len(self.calls))

        return call


def test_medians_and_ratios_are_those_of_the_work() -> None:
    clock = Clock()
    report = measure_interleaved(
        {"slow": clock.work("slow", lambda _: 0.040), "fast": clock.work("fast", lambda _: 0.010)}, rounds=9, clock=clock
    )
    assert report.baseline == "slow"
    assert report["slow"].ratio == 1.0
    assert report["slow"].median_ms == pytest.approx(40.0)
    assert report["fast"].median_ms == pytest.approx(10.0)
    assert report["fast"].ratio == pytest.approx(4.0)
    assert report["fast"].count == 9
    assert report.fastest().name == "fast"
    assert report.fastest(["slow"]).name == "slow"


def test_the_interval_of_the_ratio_narrows_with_rounds_and_holds_the_truth() -> None:
    random = np.random.default_rng(0)
    wide, narrow = [], []
    for rounds, widths in ((9, wide), (81, narrow)):
        held = 0
        for _ in range(100):
            clock = Clock()
            noisy = clock.work("b", lambda _: 0.01 * float(random.lognormal(0, 0.3)))
            row = measure_interleaved({"a": clock.work("a", lambda _: 0.02), "b": noisy}, rounds=rounds, clock=clock)["b"]
            low, high = row.ratio_sure
            assert low <= row.ratio <= high
            held += low <= 2.0 <= high
            widths.append(high - low)
        assert held >= 88, "95 of 100 expected"
    assert np.median(narrow) < np.median(wide) / 2


def test_a_machine_that_slows_down_shifts_no_ratio() -> None:
    clock = Clock()
    report = measure_interleaved(
        {
            "a": clock.work("a", lambda count: 0.02 * (1 + count / 20)),
            "b": clock.work("b", lambda count: 0.01 * (1 + count / 20)),
        },
        rounds=40,
        clock=clock,
    )
    assert report["b"].median_ms > 25
    assert report["b"].ratio == pytest.approx(2.0, rel=0.05)


def test_they_take_turns_and_the_order_alternates() -> None:
    clock = Clock()
    measure_interleaved({"a": clock.work("a", lambda _: 1.0), "b": clock.work("b", lambda _: 1.0)}, rounds=2, clock=clock)
    assert clock.calls[-8:] == ["a", "a", "b", "b", "b", "b", "a", "a"]


def test_warming_up_goes_on_until_calls_are_steady() -> None:
    clock = Clock()
    measure_interleaved({"a": clock.work("a", lambda count: 1.0 / count if count < 10 else 0.1)}, rounds=1, clock=clock)
    assert 10 <= len(clock.calls) - 2 <= 20


def test_a_budget_stops_early_but_not_before_three_rounds() -> None:
    clock = Clock()
    report = measure_interleaved({"a": clock.work("a", lambda _: 10.0)}, rounds=50, budget_s=1.0, clock=clock)
    assert report["a"].count == 3


def test_progress_is_reported_after_every_round() -> None:
    seen: list[tuple[int, int]] = []
    clock = Clock()
    measure_interleaved({"a": clock.work("a", lambda _: 1.0)}, rounds=3, clock=clock, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        measure_interleaved({})
    with pytest.raises(ValueError, match="baseline 'b'"):
        measure_interleaved({"a": lambda: None}, baseline="b")
    with pytest.raises(ValueError, match="rounds"):
        measure_interleaved({"a": lambda: None}, rounds=0)
    report = measure_interleaved({"a": lambda: None}, rounds=1)
    with pytest.raises(KeyError):
        report["b"]
    with pytest.raises(ValueError, match="none of"):
        report.fastest(["b"])
