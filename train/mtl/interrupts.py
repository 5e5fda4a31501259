"""Stopping between steps: a signal is remembered, so that no step is cut in half. Knows nothing about training."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest", "deferred_stop"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked to stop."""

    asked = False


@contextmanager
def deferred_stop(*, once: bool = False) -> Iterator[StopRequest]:
    """Within the block the first SIGINT or SIGTERM only sets `asked`; the second interrupts at once.

    Args:
        once: ignore the second and later ones: torchrun passes signals on that its processes may have had already.

    Outside the main thread, where Python delivers no signals, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def remember(number: int, frame: FrameType | None) -> None:
        if request.asked and not once:
            raise KeyboardInterrupt
        request.asked = True

    before: list[tuple[signal.Signals, Callable[..., object] | int | None]] = []
    for number in _SIGNALS:
        before.append((number, signal.signal(number, remember)))
    try:
        yield request
    finally:
        for number, handler in before:
            signal.signal(number, handler)
