"""Calling several things interleaved, A B B A, and keeping what each call took and answered. Knows clocks and fairness only.

Interleaving makes whatever else the machine does hit all of them alike. The runtimes' thread pools disturb each other
when they are interleaved (idle threads spin for a while, caches are cold), so every timed call follows an untimed one of the
same callable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["InterleavedTimes", "WarmUp", "run_interleaved", "warm_up"]

T = TypeVar("T")

_STEADY = 0.05
_FEWEST_CALLS, _MOST_CALLS = 3, 20
_WARM_UP_S = 5.0
_FEWEST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Calls before the first timed one.

    Attributes:
        first_s: the very first call.
        steady: whether calls had become even; if not, the limit of calls or of seconds ended it.
    """

    calls: int
    seconds: float
    first_s: float
    steady: bool


@dataclass(frozen=True, slots=True)
class InterleavedTimes(Generic[T]):
    """What was kept of one callable.

    Attributes:
        seconds: of each timed call; call n of one callable and call n of another are neighbours in time.
        answers: what each timed call returned.
    """

    seconds: tuple[float, ...]
    answers: tuple[T, ...]
    warm_up: WarmUp


def run_interleaved(
    callables: Mapping[str, Callable[[], T]],
    *,
    rounds: int | None = None,
    duration_s: float | None = None,
    budget_s: float | None = None,
    warm_up_calls: int = _MOST_CALLS,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, InterleavedTimes[T]]:
    """Time every callable once a round; every other round runs backwards.

    Args:
        callables: by name; each call is one complete unit of work.
        rounds: timed calls of each; with `duration_s` the most there may be.
        duration_s: seconds of measuring after the warm-up, but never fewer than 3 rounds.
        budget_s: stop early after this many seconds, warm-up included, but never before 3 rounds.
        warm_up_calls: most calls of each before the first timed one.
        progress: called with (rounds done, rounds) after each round; with `duration_s` alone, with (seconds, seconds).
        clock: seconds; only tests give another one.
    Raises:
        ValueError: nothing to measure, fewer than one round, or neither rounds nor a duration.
    """
    if not callables:
        raise ValueError("there is nothing to measure")
    if rounds is None and duration_s is None:
        raise ValueError("expected rounds or duration_s; found neither")
    if rounds is not None and rounds < 1:
        raise ValueError(f"rounds should be at least 1; found {rounds}")
    began = clock()
    names = list(callables)
    warm = {name: warm_up(callables[name], most=warm_up_calls, clock=clock) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    answers: dict[str, list[T]] = {name: [] for name in names}
    measuring = clock()
    done = 0
    while rounds is None or done < rounds:
        for name in names if done % 2 == 0 else reversed(names):
            call = callables[name]
            call()
            begin = clock()
            answer = call()
            seconds[name].append(clock() - begin)
            answers[name].append(answer)
        done += 1
        now = clock()
        if progress is not None:
            if rounds is not None:
                progress(done, rounds)
            elif duration_s is not None:
                progress(min(int(now - measuring), int(duration_s)), int(duration_s))
        over = (budget_s is not None and now - began > budget_s) or (duration_s is not None and now - measuring >= duration_s)
        if over and done >= _FEWEST_ROUNDS:
            break
    return {name: InterleavedTimes(tuple(seconds[name]), tuple(answers[name]), warm[name]) for name in names}


def warm_up(
    call: Callable[[], object],
    *,
    most: int = _MOST_CALLS,
    limit_s: float = _WARM_UP_S,
    clock: Callable[[], float] = time.perf_counter,
) -> WarmUp:
    """Call until three calls in a row take about as long as the fastest so far.

    At least 3 times, at most `most` times, and no longer than `limit_s` seconds once there were 3.
    """
    began = clock()
    first, fastest, steady, calls = 0.0, 0.0, 0, 0
    while calls < max(most, _FEWEST_CALLS):
        begin = clock()
        call()
        elapsed = clock() - begin
        steady = steady + 1 if abs(elapsed - fastest) <= _STEADY * fastest else 0
        first, fastest = (first, min(fastest, elapsed)) if calls else (elapsed, elapsed)
        calls += 1
        if calls >= _FEWEST_CALLS and (steady >= 2 or clock() - began >= limit_s):
            break
    return WarmUp(calls, clock() - began, first, steady >= 2)
