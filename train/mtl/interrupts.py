"""Stopping between steps: a signal is remembered, so that no step is cut in half. Knows nothing about training."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

__all__ = ["StopRequest", "deferred_stop"]

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked to stop.

    Attributes:
        asked: a signal came.
        waits: the process waits for something that may never come, and a signal interrupts that at once.
        together: other processes have to stop after the same step, so nothing is interrupted.
    """

    def __init__(self, *, together: bool = False) -> None:
        self.asked = self.waits = False
        self.together = together

    def awaited(self, source: Iterator[T]) -> Iterator[T]:
        """The items of `source`; it ends where a stop is asked for before or while the next one is waited for."""
        while self.together or not self.asked:
            try:
                self.waits = True
                item = next(source)
                self.waits = False
            except StopIteration:
                return
            except KeyboardInterrupt:
                if not self.asked:  # raised by the source
                    raise
                return
            finally:
                self.waits = False
            yield item


@contextmanager
def deferred_stop(*, once: bool = False) -> Iterator[StopRequest]:
    """Within the block the first SIGINT or SIGTERM only sets `asked`; the second interrupts at once.

    Args:
        once: ignore the second and later ones: torchrun passes signals on that its processes may have had already. Nothing
            is interrupted then, not even waiting: all processes stop after the same step.

    Outside the main thread, where Python delivers no signals, nothing changes.
    """
    request = StopRequest(together=once)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def remember(number: int, frame: FrameType | None) -> None:
        again, request.asked = request.asked, True
        if (again or request.waits) and not once:
            raise KeyboardInterrupt

    before: list[tuple[signal.Signals, Callable[..., object] | int | None]] = []
    for number in _SIGNALS:
        before.append((number, signal.signal(number, remember)))
    try:
        yield request
    finally:
        for number, handler in before:
            signal.signal(number, handler)
