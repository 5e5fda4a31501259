"""The work on one frame's tasks by two threads: what is gained, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TypeVar

__all__ = ["SecondThread"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_LEAST_PIXELS, _MOST_PIXELS = 200_000, 4_000_000
"""Of a map: below, waking the other thread costs more than it gains; above, two maps at once take too much memory."""


class SecondThread:
    """A thread that helps the calling one; it starts with the first work and ends with `close`, or when nobody holds this."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="edge_mtl-finish")

    def map(self, work: Callable[[Item], Answer], items: Iterable[Item], *, pixels: int) -> list[Answer]:
        """`work` of every item, in order: by both threads, from either end, where maps have a worthwhile number of pixels.

        An error of either is raised once both have stopped.
        """
        waiting = deque(enumerate(items))
        found: dict[int, Answer] = {}

        def until_done(take: Callable[[], tuple[int, Item]]) -> None:
            while True:
                try:
                    index, item = take()
                except IndexError:
                    return
                found[index] = work(item)

        other = None
        if len(waiting) > 1 and _LEAST_PIXELS <= pixels <= _MOST_PIXELS:
            with suppress(RuntimeError):  # no thread can be started: this one does it all
                other = self._worker.submit(until_done, waiting.pop)
        if other is None:
            until_done(waiting.popleft)
        else:
            try:
                until_done(waiting.popleft)
            except BaseException:
                waiting.clear()
                raise
            finally:
                helped = not other.cancel()  # it has not begun where another frame keeps the thread busy
                if helped:
                    wait([other])
            if helped:
                other.result()
        return [found[index] for index in range(len(found))]

    def close(self) -> None:
        """End the thread. Work that runs ends first."""
        self._worker.shutdown(wait=True)
