"""Frames that arrive at a fixed rate, as from a camera: how old an answer is, and which frames were missed.

The driver keeps the newest frame only, as robots want it: whoever is late gets the latest and never a queue. Knows
clocks; knows nothing about engines.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_mtl.bench.statistics import Distribution, distribution

__all__ = ["FixedRateRow", "measure_fixed_rate"]

_SPIN_S = 0.002


@dataclass(frozen=True, slots=True)
class FixedRateRow:
    """What a camera's consumer saw.

    Attributes:
        rate_hz: of the camera.
        frames: that the camera delivered.
        answered: frames that were worked on.
        missed: frames that a newer one replaced before they were taken, or that were not taken before the camera stopped.
        age: milliseconds from a frame's arrival to its answer, waiting included.
        answers_per_s: answered frames over the whole time.
    """

    rate_hz: float
    frames: int
    answered: int
    missed: int
    age: Distribution
    answers_per_s: float


def measure_fixed_rate(
    call: Callable[[], object],
    *,
    rate_hz: float,
    duration_s: float,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> FixedRateRow:
    """Work on the newest frame of a camera of `rate_hz` for `duration_s` seconds; then the camera stops, and no call begins.

    Args:
        call: one frame's work.
        progress: called with (frames that arrived, of how many).
        clock, sleep: only tests give others.
    Raises:
        ValueError: a rate or duration that is not positive.
    """
    if not (rate_hz > 0 and duration_s > 0):
        raise ValueError(f"expected a positive rate and duration; found {rate_hz} Hz and {duration_s} s")
    total = max(1, math.floor(duration_s * rate_hz))
    call()
    ages: list[float] = []
    began = clock()
    following = 0
    missed = 0
    while following < total:
        arrives = began + following / rate_hz
        _wait_until(arrives, clock, sleep)
        if ages and clock() - began >= total / rate_hz:
            missed += total - following
            break
        # A frame arrives at the very moment that is compared here: rounding must not make it late.
        newest = min(math.floor((clock() - began) * rate_hz + 1e-6), total - 1)
        missed += newest - following
        arrived = began + newest / rate_hz
        call()
        ages.append(clock() - arrived)
        following = newest + 1
        if progress is not None:
            progress(following, total)
    return FixedRateRow(
        rate_hz=rate_hz,
        frames=total,
        answered=len(ages),
        missed=missed,
        age=distribution(ages),
        answers_per_s=len(ages) / max(clock() - began, 1e-9),
    )


def _wait_until(moment: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """Sleep for the most of it, then look at the clock: schedulers wake up late."""
    while (left := moment - clock()) > 0:
        sleep(left - _SPIN_S if left > 2 * _SPIN_S else min(left, _SPIN_S / 20))
