"""The queue under random schedules: never twice, never out of order, never another frame's header, and exact accounts."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest
from edge_mtl_ros.frame_queue import JUMP_NS, FrameHandle, LatestFrameQueue, StampOrder
from hypothesis import given, settings
from hypothesis import strategies as st

OUTCOMES = ("published", "rejected", "unsubscribed", "shed", "failed")
STEPS = st.lists(
    st.one_of(
        st.just(("offer",)),
        st.just(("take",)),
        st.tuples(st.just("finish"), st.sampled_from(OUTCOMES)),
        st.tuples(st.just("wait"), st.floats(0, 2)),
        st.just(("close",)),
        st.just(("open",)),
        st.tuples(st.just("leave_out"), st.sampled_from(("rejected", "stale_stamp"))),
    ),
    max_size=120,
)


@given(steps=STEPS, max_age_s=st.sampled_from([0.0, 0.5]))
@settings(max_examples=300, deadline=None)
def test_any_schedule_keeps_order_headers_and_accounts(steps: list[tuple[Any, ...]], max_age_s: float) -> None:
    now = [0.0]
    queue: LatestFrameQueue[tuple[int, str]] = LatestFrameQueue(max_age_s=max_age_s, clock=lambda: now[0])
    queue.open()
    held: FrameHandle[tuple[int, str]] | None = None
    offered, published = 0, []
    for step in steps:
        if step[0] == "offer":
            offered += 1
            queue.offer((offered, f"header {offered}"))
        elif step[0] == "take" and held is None:
            held = queue.take(0.0)
            assert held is None or max_age_s == 0 or now[0] - held.arrived_s <= max_age_s
            assert held is None or held.item[0] == offered, "an older frame than the newest was handed out"
        elif step[0] == "finish" and held is not None:
            queue.finish(held, step[1])
            if step[1] == "published":
                published.append(held.item)
            held = None
        elif step[0] == "wait":
            now[0] += step[1]
        elif step[0] == "close":
            queue.close()
        elif step[0] == "open":
            queue.open()
        elif step[0] == "leave_out":
            queue.leave_out(step[1])
        counts = queue.counts()
        assert counts.exact
        assert counts.published == len(published)
        assert counts.working == (held is not None)
    numbers = [number for number, _ in published]
    assert numbers == sorted(set(numbers))
    assert all(header == f"header {number}" for number, header in published)


def test_a_worker_and_two_cameras_in_threads_lose_nothing() -> None:
    queue: LatestFrameQueue[tuple[int, int]] = LatestFrameQueue()
    queue.open()
    published: list[tuple[int, int]] = []
    unbalanced: list[Any] = []
    over = threading.Event()

    def camera(number: int) -> None:
        for index in range(400):
            queue.offer((number, index))
            if index % 7 == 0:
                time.sleep(0.0002)

    def worker() -> None:
        while not over.is_set():
            handle = queue.take(0.05)
            if handle is not None:
                time.sleep(0.0003)
                published.append(handle.item)
                queue.finish(handle, "published")

    def auditor() -> None:
        while not over.is_set():
            counts = queue.counts()
            if not counts.exact:
                unbalanced.append(counts)

    threads = [threading.Thread(target=worker), threading.Thread(target=auditor)]
    cameras = [threading.Thread(target=camera, args=(number,)) for number in range(2)]
    for thread in (*threads, *cameras):
        thread.start()
    for thread in cameras:
        thread.join()
    end_s = time.monotonic() + 10
    while queue.counts().waiting + queue.counts().working and time.monotonic() < end_s:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    counts = queue.counts()
    assert not unbalanced
    assert counts.received == 800
    assert counts.published == len(published) == len(set(published))
    for number in range(2):
        indices = [index for who, index in published if who == number]
        assert indices == sorted(indices)


def test_closing_wakes_the_worker_and_counts_the_waiting_frame() -> None:
    queue: LatestFrameQueue[int] = LatestFrameQueue()
    queue.open()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(queue.take(30.0)))
    thread.start()
    queue.close()
    thread.join(5)
    assert answers == [None]
    queue.offer(1)
    assert queue.counts().drops["stopped"] == 1
    assert queue.counts().exact


def test_only_the_frame_in_hand_can_be_finished() -> None:
    queue: LatestFrameQueue[int] = LatestFrameQueue()
    queue.open()
    queue.offer(1)
    handle = queue.take(0.0)
    assert handle is not None
    with pytest.raises(RuntimeError, match="not finished"):
        queue.take(0.0)
    queue.finish(handle, "published")
    with pytest.raises(RuntimeError, match="not the one"):
        queue.finish(handle, "published")


@given(stamps=st.lists(st.integers(0, 5 * JUMP_NS), max_size=60))
def test_accepted_stamps_rise_except_where_time_was_set_back(stamps: list[int]) -> None:
    order = StampOrder()
    accepted = [stamp for stamp in stamps if order.accept(stamp) and stamp]
    falls = [later - earlier for earlier, later in itertools.pairwise(accepted) if later <= earlier]
    assert all(-fall >= JUMP_NS for fall in falls)
    assert order.jumps == len(falls)
