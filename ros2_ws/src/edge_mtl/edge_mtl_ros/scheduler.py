"""Whose frame comes next: each camera holds its newest one, and the camera that was served longest ago goes first.

Knows queues and turns; knows nothing about images or ROS.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from edge_mtl_ros.frame_queue import FrameHandle, LatestFrameQueue

__all__ = ["FrameScheduler"]

T = TypeVar("T")


class FrameScheduler(Generic[T]):
    """The queues of several cameras, served in turns by one worker.

    A camera that has a frame waits for one frame of each other camera at most, however fast those are. One that has none takes
    no turn and loses none: it keeps its place. A frame that is too old is dropped and takes no turn either.

    Args:
        names: of the cameras; those that were never served go in this order.
        clock: monotonic seconds; another one is for tests.
    Attributes:
        queues: by name. Frames are offered to them, and what was taken is finished there.
    """

    def __init__(self, names: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._condition = threading.Condition()
        self.queues: Mapping[str, LatestFrameQueue[T]] = {
            name: LatestFrameQueue(clock=clock, condition=self._condition) for name in names
        }
        self._order = list(names)

    def open(self) -> None:
        """Accept frames of all cameras."""
        with self._condition:
            for queue in self.queues.values():
                queue.open()

    def close(self) -> None:
        """Accept no frame, drop those that wait, and let the worker's `take` return None."""
        with self._condition:
            for queue in self.queues.values():
                queue.close()

    def take(self, timeout_s: float | None = None) -> tuple[str, FrameHandle[T]] | None:
        """The camera whose turn it is and its newest frame, to be finished in its queue before the next is taken.

        None after the timeout, when the queues were closed, or when all that waited was too old.
        """
        with self._condition:
            self._condition.wait_for(lambda: any(queue.ready for queue in self.queues.values()), timeout_s)
            for name in self._order:
                handle = self.queues[name].take(0.0) if self.queues[name].ready else None
                if handle is not None:
                    self._order.remove(name)
                    self._order.append(name)
                    return name, handle
            return None
