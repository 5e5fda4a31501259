"""Whose frame comes next: no camera starves another, and the accounts of each are exact under any schedule."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest
from edge_mtl_ros.frame_queue import Counts, FrameHandle
from edge_mtl_ros.scheduler import FrameScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("front", "left", "rear")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(NAMES)),
        st.tuples(st.just("offer"), st.sampled_from(NAMES)),
        st.just(("take",)),
        st.tuples(st.just("finish"), st.sampled_from(("published", "rejected", "withheld", "failed"))),
        st.tuples(st.just("wait"), st.floats(0, 2)),
        st.tuples(st.just("leave_out"), st.sampled_from(NAMES)),
        st.just(("close",)),
        st.just(("open",)),
    ),
    max_size=120,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def filmed(rates_hz: dict[str, float], *, frame_s: float, seconds: float, max_age_s: float = 0.0) -> dict[str, list[float]]:
    """How long each published frame waited to be taken, by camera, where a worker takes `frame_s` for a frame."""
    clock = Clock()
    frames: FrameScheduler[float] = FrameScheduler(tuple(rates_hz), clock=clock)
    frames.open()
    for queue in frames.queues.values():
        queue.max_age_s = max_age_s
    due = dict.fromkeys(rates_hz, 0.0)
    waited: dict[str, list[float]] = {name: [] for name in rates_hz}

    def film_until(end_s: float) -> None:
        while min(due.values()) <= end_s:
            name = min(due, key=lambda camera: due[camera])
            clock.now_s = due[name]
            frames.queues[name].offer(due[name])
            due[name] += 1.0 / rates_hz[name]
        clock.now_s = end_s

    while clock.now_s < seconds:
        film_until(clock.now_s)
        taken = frames.take(0.0)
        if taken is None:
            film_until(min(due.values()))
            continue
        name, handle = taken
        waited[name].append(clock.now_s - handle.item)
        film_until(clock.now_s + frame_s)
        frames.queues[name].finish(handle, "published")
    for queue in frames.queues.values():
        assert queue.counts().exact
    return waited


@pytest.mark.parametrize("order", [("fast", "slow"), ("slow", "fast")])
def test_a_camera_of_60_hz_does_not_starve_one_of_5_hz(order: tuple[str, str]) -> None:
    rates_hz = {"fast": 60.0, "slow": 5.0}
    waited = filmed({name: rates_hz[name] for name in order}, frame_s=0.05, seconds=60.0)
    assert len(waited["slow"]) == 300, "every frame of the slow one is answered"
    assert max(waited["slow"]) <= 0.05 + 1e-9, "after one frame of the other at most"
    assert len(waited["fast"]) == pytest.approx(20 * 60 - 300, abs=2), "the fast one has all the time that is left"
    assert max(waited["fast"]) <= 1 / 60 + 1e-9, "and its newest frame"


def test_cameras_that_are_all_too_fast_share_the_time_equally() -> None:
    waited = filmed({"a": 60.0, "b": 30.0, "c": 25.0}, frame_s=0.1, seconds=60.0)
    assert {name: len(found) for name, found in waited.items()} == {"a": 200, "b": 200, "c": 200}


def test_a_camera_without_a_frame_takes_no_turn_and_keeps_its_place() -> None:
    frames: FrameScheduler[str] = FrameScheduler(NAMES)
    frames.open()

    def turn(*offers: str) -> str:
        for name in offers:
            frames.queues[name].offer(name)
        taken = frames.take(0.0)
        assert taken is not None
        frames.queues[taken[0]].finish(taken[1], "published")
        return taken[0]

    assert [turn("front", "left"), turn("front"), turn("front")] == ["front", "left", "front"]
    assert turn("front", "left", "rear") == "rear", "it was never served"
    assert turn("rear") == "left"


def test_a_frame_that_is_too_old_takes_no_turn_and_the_next_camera_is_served() -> None:
    clock = Clock()
    frames: FrameScheduler[str] = FrameScheduler(NAMES, clock=clock)
    frames.open()
    frames.queues["front"].max_age_s = 0.5
    frames.queues["front"].offer("old")
    frames.queues["left"].offer("old, but no limit")
    clock.now_s = 1.0
    taken = frames.take(0.0)
    assert taken is not None
    assert taken[0] == "left"
    frames.queues["left"].finish(taken[1], "published")
    assert frames.queues["front"].counts().drops["aged"] == 1
    for name in ("front", "left"):
        frames.queues[name].offer("new")
    taken = frames.take(0.0)
    assert taken is not None
    assert taken[0] == "front"


@given(steps=STEPS, max_age_s=st.sampled_from([0.0, 0.5]))
@settings(max_examples=200, deadline=None)
def test_any_schedule_keeps_the_accounts_of_each_camera_and_the_turns_of_all(
    steps: list[tuple[Any, ...]], max_age_s: float
) -> None:
    clock = Clock()
    frames: FrameScheduler[tuple[str, int]] = FrameScheduler(NAMES, clock=clock)
    frames.open()
    frames.queues["left"].max_age_s = max_age_s
    held: tuple[str, FrameHandle[tuple[str, int]]] | None = None
    offered, newest = Counter[str](), Counter[str]()
    passed_over: Counter[str] = Counter()  # frames of others taken while one of this camera waited
    for step in steps:
        if step[0] == "offer":
            offered[step[1]] += 1
            newest[step[1]] = offered[step[1]]
            frames.queues[step[1]].offer((step[1], offered[step[1]]))
        elif step[0] == "leave_out":
            offered[step[1]] += 1
            frames.queues[step[1]].leave_out("stale_stamp")
        elif step[0] == "take" and held is None:
            held = frames.take(0.0)
            if held is not None:
                name, handle = held
                assert handle.item == (name, newest[name])
                passed_over[name] = 0
                for other in NAMES:
                    passed_over[other] += other != name and frames.queues[other].counts().waiting
        elif step[0] == "finish" and held is not None:
            frames.queues[held[0]].finish(held[1], step[1])
            held = None
        elif step[0] == "wait":
            clock.now_s += step[1]
        elif step[0] == "close":
            frames.close()
        elif step[0] == "open":
            frames.open()
        assert max(passed_over.values(), default=0) < len(NAMES)
        for name, queue in frames.queues.items():
            counts = queue.counts()
            assert counts.exact
            assert counts.received == offered[name]
            assert counts.working == (held is not None and held[0] == name)
            if not counts.waiting:
                passed_over[name] = 0
    total = Counts.total(queue.counts() for queue in frames.queues.values())
    assert total.exact
    assert total.received == offered.total()


def test_a_worker_that_waits_is_woken_by_any_camera_and_by_the_end() -> None:
    frames: FrameScheduler[int] = FrameScheduler(NAMES)
    frames.open()
    taken: list[Any] = []

    def work() -> None:
        while (found := frames.take(30.0)) is not None:
            frames.queues[found[0]].finish(found[1], "published")
            taken.append((found[0], found[1].item))

    worker = threading.Thread(target=work)
    worker.start()
    for number, name in enumerate(reversed(NAMES)):
        frames.queues[name].offer(number)
        end_s = time.monotonic() + 10
        while len(taken) <= number and time.monotonic() < end_s:
            time.sleep(0.001)
    frames.close()
    worker.join(10)
    assert not worker.is_alive()
    assert taken == [("rear", 0), ("left", 1), ("front", 2)]
