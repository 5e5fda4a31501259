"""Work on frames that overlaps, and answers in the order of the frames: the loop behind `Engine.stream`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["in_order"]

Answer = TypeVar("Answer")
_END: Any = object()


def in_order(
    frames: Iterable[Any],
    begin: Callable[[Any], Callable[[], Answer]],
    *,
    ahead: int,
    alive: Callable[[], None],
    ready: Callable[[], None],
) -> Iterator[Answer]:
    """Answers for `frames`. An error, also one raised by `frames`, comes after the answers before it.

    Args:
        begin: starts the work on a frame, with which it is done when it returns, and gives what waits for its answer.
        ahead: frames whose work runs while the next one is begun.
        alive: raises where nothing that runs would ever end, and no answer is waited for.
        ready: raises where no further frame should be asked for.
    """
    iterator = iter(frames)
    running: deque[Callable[[], Answer]] = deque()
    while True:
        alive()
        failure: Exception | None = None
        ended = False
        try:
            ready()
            frame = next(iterator, _END)
            ended = frame is _END
            if not ended:
                running.append(begin(frame))
        except Exception as exc:
            failure = exc
        while running and (ended or failure is not None or len(running) > ahead):
            yield running.popleft()()
        if failure is not None:
            raise failure
        if ended:
            return
