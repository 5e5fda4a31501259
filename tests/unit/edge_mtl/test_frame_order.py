"""Work that overlaps, answers in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_mtl.frame_order import in_order


def nothing() -> None:
    return None


def test_answers_come_in_the_order_of_the_frames_whichever_is_done_first() -> None:
    later = {number: threading.Event() for number in range(6)}
    for number in (1, 3, 5):
        later[number].set()

    def work(number: int) -> int:
        assert later[number].wait(10)
        if number % 2:
            later[number - 1].set()
        return number

    with ThreadPoolExecutor(2) as pool:

        def begin(number: int) -> Callable[[], int]:
            return pool.submit(work, number).result

        assert list(in_order(range(6), begin, ahead=2, alive=nothing, ready=nothing)) == list(range(6))


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_frames_are_begun_than_asked_for(ahead: int) -> None:
    begun: list[int] = []

    def begin(number: int) -> Callable[[], int]:
        begun.append(number)
        return lambda: number

    for answered in in_order(range(20), begin, ahead=ahead, alive=nothing, ready=nothing):
        assert len(begun) == min(answered + 1 + ahead, 20)


def test_no_frame_is_asked_for_where_none_is_wanted() -> None:
    def refuse() -> None:
        raise RuntimeError("closed")

    def frames():
        pytest.fail("asked for")
        yield

    with pytest.raises(RuntimeError, match="closed"):
        list(in_order(frames(), lambda frame: lambda: frame, ahead=1, alive=nothing, ready=refuse))


def test_nothing_is_waited_for_that_will_never_end() -> None:
    asked = iter([None, None, RuntimeError("forked")])

    def alive() -> None:
        error = next(asked)
        if error is not None:
            raise error

    def begin(frame: int) -> Callable[[], int]:
        return lambda: pytest.fail("waited for")

    with pytest.raises(RuntimeError, match="forked"):
        list(in_order(range(5), begin, ahead=2, alive=alive, ready=nothing))
