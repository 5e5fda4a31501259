"""One signal stops between steps, and at once what waits for something that may never come."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from mtl.interrupts import deferred_stop


def numbers(number: signal.Signals, waits_s: float) -> Iterator[int]:
    """0, then a signal to this process while 1 is waited for."""
    yield 0
    os.kill(os.getpid(), number)
    time.sleep(waits_s)
    yield 1
    yield 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_waiting_and_nothing_is_raised(number: signal.Signals) -> None:
    began = time.monotonic()
    with deferred_stop() as stop:
        assert list(stop.awaited(numbers(number, 30.0))) == [0]
    assert stop.asked
    assert time.monotonic() - began < 20


def test_a_signal_between_two_items_ends_them_and_a_second_interrupts() -> None:
    with deferred_stop() as stop:
        coming = stop.awaited(iter(range(9)))
        assert next(coming) == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert list(coming) == []
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_processes_that_stop_together_interrupt_nothing() -> None:
    with deferred_stop(once=True) as stop:
        assert list(stop.awaited(numbers(signal.SIGTERM, 0.0))) == [0, 1, 2]
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked


def test_an_interrupt_that_the_source_raises_is_no_stop() -> None:
    def source() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    with deferred_stop() as stop, pytest.raises(KeyboardInterrupt):
        list(stop.awaited(source()))
    assert not stop.asked
