"""InterleavedTimes, a paced camera and energy, against a clock that moves only when work is done."""

from __future__ import annotations

import pytest

from edge_mtl.bench.energy import Integrator, counter_of, measure_energy
from edge_mtl.bench.fixed_rate import measure_fixed_rate
from edge_mtl.bench.interleaved import run_interleaved, warm_up
from edge_mtl.bench.sensors.hwmon import Hwmon


class Machine:
    """A clock, and a battery that is drained at some watts while it moves."""

    name, covers = "battery", "everything"

    def __init__(self, idle_w: float = 2.0) -> None:
        self.now, self.used, self.idle_w = 0.0, 0.0, idle_w

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float, watts: float | None = None) -> None:
        self.now += seconds
        self.used += seconds * (self.idle_w if watts is None else watts)

    def joules(self) -> float:
        return self.used

    def watts(self) -> float:
        return self.idle_w


def test_a_duration_is_kept_and_answers_are_too() -> None:
    machine = Machine()
    found = run_interleaved({"a": lambda: machine.spend(0.5), "b": lambda: machine.spend(0.5)}, duration_s=10.0, clock=machine)
    assert len(found["a"].seconds) == len(found["b"].seconds) == 5
    assert found["a"].answers == (None,) * 5
    assert found["a"].warm_up.steady
    with pytest.raises(ValueError, match="neither"):
        run_interleaved({"a": lambda: None})


def test_a_short_duration_still_has_three_rounds() -> None:
    machine = Machine()
    assert len(run_interleaved({"a": lambda: machine.spend(9.0)}, duration_s=0.1, clock=machine)["a"].seconds) == 3


def test_warming_up_says_whether_calls_became_steady_and_stops_in_time() -> None:
    machine, lengths = Machine(), iter([1.0, 2.0] * 100)
    uneven = warm_up(lambda: machine.spend(next(lengths)), most=10, limit_s=1e9, clock=machine)
    assert (uneven.calls, uneven.steady, uneven.first_s) == (10, False, 1.0)
    assert warm_up(lambda: machine.spend(next(lengths)), most=50, limit_s=6.0, clock=machine).calls == 4
    assert warm_up(lambda: machine.spend(1.0), clock=machine).steady


def test_an_engine_in_time_misses_no_frame_and_answers_are_as_old_as_the_work() -> None:
    machine = Machine()
    found = measure_fixed_rate(lambda: machine.spend(0.010), rate_hz=30, duration_s=2.0, clock=machine, sleep=machine.spend)
    assert (found.frames, found.answered, found.missed) == (60, 60, 0)
    assert found.age.p50_ms == pytest.approx(10.0, abs=0.2)
    assert found.answers_per_s == pytest.approx(30.0, rel=0.02)


def test_an_engine_that_is_late_takes_the_newest_frame_and_the_others_are_counted() -> None:
    machine = Machine()
    found = measure_fixed_rate(lambda: machine.spend(0.080), rate_hz=30, duration_s=4.0, clock=machine, sleep=machine.spend)
    assert found.answered + found.missed == found.frames == 120
    assert 0.5 < found.missed / found.frames < 0.7
    assert 80.0 <= found.age.p50_ms <= 80.0 + 34.0
    assert found.age.max_ms < 80.0 + 34.0, "no queue builds up"


def test_no_frame_is_taken_from_a_camera_that_has_stopped() -> None:
    machine = Machine()
    found = measure_fixed_rate(lambda: machine.spend(5.0), rate_hz=30, duration_s=2.0, clock=machine, sleep=machine.spend)
    assert (found.frames, found.answered, found.missed) == (60, 1, 59)
    assert found.age.max_ms == pytest.approx(5000.0)
    assert found.answers_per_s == pytest.approx(0.2)


def test_nonsense_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        measure_fixed_rate(lambda: None, rate_hz=0.0, duration_s=1.0)


def test_energy_per_frame_and_above_idle_are_those_of_the_work() -> None:
    machine = Machine(idle_w=2.0)
    found = measure_energy(
        {"slow": lambda: machine.spend(0.10, 12.0), "fast": lambda: machine.spend(0.05, 12.0)},
        [machine],
        block_s=1.0,
        blocks=4,
        clock=machine,
        sleep=machine.spend,
    )
    (slow,), (fast,) = found["slow"], found["fast"]
    assert (slow.joules.value, fast.joules.value) == pytest.approx((1.2, 0.6))
    assert slow.above_idle_joules == pytest.approx(1.0)
    assert (slow.idle_watts, slow.watts) == pytest.approx((2.0, 12.0))
    assert slow.frames == pytest.approx(40, abs=4)


def test_a_call_of_several_frames_shares_its_energy_among_them() -> None:
    machine = Machine(idle_w=2.0)
    (found,) = measure_energy(
        {"four": lambda: machine.spend(0.10, 12.0)},
        [machine],
        frames_per_call=4,
        block_s=1.0,
        clock=machine,
        sleep=machine.spend,
    )["four"]
    assert (found.joules.value, found.above_idle_joules) == pytest.approx((0.3, 0.25))
    assert found.frames % 4 == 0


def test_power_is_added_up_to_energy_by_trapezoids() -> None:
    machine = Machine(idle_w=4.0)
    summed = Integrator(machine, clock=machine)
    machine.now = 2.0
    machine.idle_w = 8.0
    assert summed.joules() == pytest.approx(12.0)


def test_a_sensor_that_fails_in_the_background_is_reported() -> None:
    class Broken(Machine):
        readings = 0

        def watts(self) -> float:
            self.readings += 1
            if self.readings > 1:
                raise OSError("the sensor has gone")
            return 1.0

    with Integrator(Broken(), every_s=0.001) as summed, pytest.raises(OSError, match="gone"):
        summed.joules()


def test_sensors_of_power_get_an_integrator() -> None:
    board = Hwmon((), "nothing")
    assert isinstance(counter_of(board), Integrator)
