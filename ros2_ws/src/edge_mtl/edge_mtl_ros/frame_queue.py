"""The newest frame waits, older ones are dropped, and every frame is accounted for; and which stamps may follow which.

Knows threads and counting; knows nothing about images or ROS. Any number of threads may offer, one worker takes. At every
instant: received = published + dropped + rejected + waiting + working. Which of several queues comes next is in `scheduler`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

__all__ = ["Counts", "FrameHandle", "LatestFrameQueue", "Outcome", "StampOrder"]

T = TypeVar("T")
Outcome = Literal[
    "published", "rejected", "replaced", "aged", "unsubscribed", "shed", "withheld", "failed", "stale_stamp", "stopped"
]
_DROPS: tuple[Outcome, ...] = ("replaced", "aged", "unsubscribed", "shed", "withheld", "failed", "stale_stamp", "stopped")
JUMP_NS = 1_000_000_000
"""A stamp this far behind its predecessor is a clock set back (a bag that starts over), not a late frame."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Where all frames went since the start.

    Attributes:
        received: frames that arrived.
        published: frames whose maps went out.
        rejected: frames that could not be used: encoding, size, damaged.
        drops: frames that were left out, by reason: "replaced" by a newer one, "aged" while waiting, "unsubscribed" as
            nobody listens, "shed" as the node is behind and leaves out all that is listened to, "withheld" as nothing that is
            listened to can be sent of it, for want of a camera or of such a map, "failed" in the runtime, "stale_stamp" not
            newer than the one before, "stopped" by deactivation.
        waiting, working: frames in flight.
    """

    received: int
    published: int
    rejected: int
    drops: Mapping[str, int]
    waiting: int
    working: int

    @property
    def dropped(self) -> int:
        """Frames left out for any reason."""
        return sum(self.drops.values())

    @property
    def exact(self) -> bool:
        """Whether no frame is unaccounted for."""
        return self.received == self.published + self.dropped + self.rejected + self.waiting + self.working

    @classmethod
    def total(cls, parts: Iterable[Counts]) -> Counts:
        """Where the frames of several queues went."""
        every = list(parts)
        return cls(
            sum(each.received for each in every),
            sum(each.published for each in every),
            sum(each.rejected for each in every),
            {reason: sum(each.drops[reason] for each in every) for reason in _DROPS},
            sum(each.waiting for each in every),
            sum(each.working for each in every),
        )


@dataclass(frozen=True, slots=True)
class FrameHandle(Generic[T]):
    """One frame in the worker's hands.

    Attributes:
        number: counts frames received, from 1.
        arrived_s, offered_s: when it was there and when it was put into the queue, by the queue's clock.
    """

    number: int
    item: T
    arrived_s: float
    offered_s: float


@dataclass(slots=True)
class _FrameStats:
    received: int = 0
    published: int = 0
    rejected: int = 0
    drops: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_DROPS, 0))

    def close(self, outcome: Outcome) -> None:
        if outcome == "published":
            self.published += 1
        elif outcome == "rejected":
            self.rejected += 1
        else:
            self.drops[outcome] += 1


class LatestFrameQueue(Generic[T]):
    """Holds at most one waiting frame.

    Args:
        max_age_s: a frame that waited longer than this is dropped when it would be taken; 0 for no limit.
        clock: monotonic seconds; another one is for tests.
        condition: what its changes are told by, where one worker waits for several queues.
    """

    def __init__(
        self,
        *,
        max_age_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        condition: threading.Condition | None = None,
    ) -> None:
        self.max_age_s = max_age_s
        self._clock = clock
        self._condition = threading.Condition() if condition is None else condition
        self._stats = _FrameStats()
        self._waiting: FrameHandle[T] | None = None
        self._working: FrameHandle[T] | None = None
        self._open = False

    @property
    def ready(self) -> bool:
        """Whether `take` returns at once: a frame waits, or the queue is closed."""
        return self._waiting is not None or not self._open

    def open(self) -> None:
        """Accept frames; counts continue from where they were."""
        with self._condition:
            self._open = True

    def close(self) -> None:
        """Accept no frame, drop the waiting one, and let the worker's `take` return None."""
        with self._condition:
            self._open = False
            self._drop_waiting("stopped")
            self._condition.notify_all()

    def offer(self, item: T, *, arrived_s: float | None = None) -> None:
        """A frame arrived, now or at a time of the queue's clock; the one that was waiting is dropped.

        A closed queue counts it and drops it.
        """
        with self._condition:
            self._stats.received += 1
            if not self._open:
                self._stats.close("stopped")
                return
            self._drop_waiting("replaced")
            now_s = self._clock()
            self._waiting = FrameHandle(self._stats.received, item, now_s if arrived_s is None else arrived_s, now_s)
            self._condition.notify()

    def leave_out(self, outcome: Outcome) -> None:
        """A frame arrived that will not be worked on, and why."""
        with self._condition:
            self._stats.received += 1
            self._stats.close(outcome)

    def take(self, timeout_s: float | None = None) -> FrameHandle[T] | None:
        """The newest frame, which the caller must `finish`; None after the timeout or when the queue was closed.

        Raises:
            RuntimeError: the one before was not finished.
        """
        with self._condition:
            if self._working is not None:
                raise RuntimeError(f"frame {self._working.number} was taken and not finished")
            self._condition.wait_for(lambda: self.ready, timeout_s)
            handle = self._waiting
            if handle is None:
                return None
            if self.max_age_s > 0 and self._clock() - handle.arrived_s > self.max_age_s:
                self._drop_waiting("aged")
                return None
            self._waiting, self._working = None, handle
            return handle

    def finish(self, handle: FrameHandle[T], outcome: Outcome) -> None:
        """What became of a frame that was taken. Raises RuntimeError for any other frame."""
        with self._condition:
            if self._working is not handle:
                raise RuntimeError(f"frame {handle.number} is not the one being worked on")
            self._working = None
            self._stats.close(outcome)

    def counts(self) -> Counts:
        """All counts, of one instant."""
        with self._condition:
            stats = self._stats
            return Counts(
                stats.received,
                stats.published,
                stats.rejected,
                dict(stats.drops),
                int(self._waiting is not None),
                int(self._working is not None),
            )

    def working_since_s(self) -> float | None:
        """When the frame being worked on arrived, monotonic; None while there is none."""
        with self._condition:
            return None if self._working is None else self._working.arrived_s

    def _drop_waiting(self, reason: Outcome) -> None:
        if self._waiting is not None:
            self._waiting = None
            self._stats.close(reason)


class StampOrder:
    """Judges the stamps of one stream: no duplicate, no straggler; a clock that was set back starts a new timeline.

    Ages are not measured by stamps: they are taken from the monotonic clock.

    Attributes:
        jumps: how often time jumped back.
    """

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self.jumps = 0

    def accept(self, stamp_ns: int) -> bool:
        """Whether a frame of this stamp may be published after those before it. Zero means unstamped: always."""
        if stamp_ns == 0:
            return True
        if self._last_ns is not None and stamp_ns <= self._last_ns:
            if self._last_ns - stamp_ns < JUMP_NS:
                return False
            self.jumps += 1
        self._last_ns = stamp_ns
        return True
