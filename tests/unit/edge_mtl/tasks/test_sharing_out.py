"""Two threads finish one frame: the same answers in the same order, and nothing is left behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.tasks import sharing_out
from edge_mtl.tasks.sharing_out import SecondThread
from tests.bundles import make_image

LARGE = 500_000


def test_answers_are_in_order_and_both_threads_work() -> None:
    met = threading.Barrier(2)
    workers: dict[int, int] = {}

    def work(item: int) -> int:
        workers[item] = threading.get_ident()
        if item in (0, 4):
            met.wait(10)  # only another thread can be at the other end meanwhile
        return item * item

    second = SecondThread()
    assert second.map(work, range(5), pixels=LARGE) == [0, 1, 4, 9, 16]
    assert workers[0] == threading.get_ident() != workers[4]
    second.close()


@pytest.mark.parametrize(("items", "pixels"), [(1, LARGE), (5, 100), (5, 10**9), (0, LARGE)])
def test_what_is_not_worth_it_starts_no_thread(items: int, pixels: int) -> None:
    before = threading.active_count()
    second = SecondThread()
    assert second.map(lambda item: item, range(items), pixels=pixels) == list(range(items))
    assert threading.active_count() == before


@pytest.mark.parametrize("failing", [0, 4])
def test_an_error_of_either_thread_is_raised_when_both_have_stopped(failing: int) -> None:
    met = threading.Barrier(2)
    running = set()

    def work(item: int) -> int:
        running.add(item)
        if item in (0, 4):
            met.wait(10)
        if item == failing:
            raise ValueError(f"item {item}")
        running.remove(item)
        return item

    second = SecondThread()
    with pytest.raises(ValueError, match=f"item {failing}"):
        second.map(work, range(5), pixels=LARGE)
    assert running == {failing}
    assert second.map(lambda item: item, range(5), pixels=LARGE) == list(range(5))
    second.close()


def test_a_frame_does_not_wait_for_another_one_that_keeps_the_thread_busy() -> None:
    begun, go_on = threading.Event(), threading.Event()
    second = SecondThread()

    def slow(item: int) -> int:
        if item == 1:
            begun.set()
            assert go_on.wait(10)
        return item

    other = threading.Thread(target=lambda: second.map(slow, range(2), pixels=LARGE))
    other.start()
    assert begun.wait(10)
    assert second.map(lambda item: item, range(5), pixels=LARGE) == list(
        range(5)
    )  # while the thread is still with the other frame
    assert other.is_alive()
    go_on.set()
    other.join(10)
    second.close()


def test_where_no_thread_can_be_started_one_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    second = SecondThread()
    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", refuse)
        assert second.map(lambda item: item, range(5), pixels=LARGE) == list(range(5))
    assert second.map(lambda item: item, range(5), pixels=LARGE) == list(range(5))
    second.close()


def test_an_engine_answers_the_same_by_one_thread_and_by_two(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = make_image(3, height=480, width=640)
    monkeypatch.setattr("edge_mtl.engine.default_threads", lambda: 2)
    before = threading.active_count()
    with Engine(tiny_bundle, threads=1, self_test="off") as engine:
        shared = engine.predict(frame)
        assert threading.active_count() == before + 1
        monkeypatch.setattr(sharing_out, "_LEAST_PIXELS", 10**9)
        alone = engine.predict(frame)
    assert threading.active_count() == before
    np.testing.assert_array_equal(shared.segmentation, alone.segmentation)
    np.testing.assert_array_equal(shared.depth, alone.depth)
    np.testing.assert_array_equal(shared.normals, alone.normals)
