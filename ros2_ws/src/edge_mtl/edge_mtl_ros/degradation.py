"""When the node falls behind: which work is left out, in which order, and when it comes back.

Knows latencies and a budget; knows nothing about what the work is done with. One step is taken at a time. The first steps
cost consumers least: the cloud can be rebuilt from the depth, maps of vectors (normals) are the largest, and halving the
rate also lets a hot device cool.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["STEPS", "Degradation", "Step"]

_MISSED_FOR_S = 2.0
"""How long the budget must be missed before a step is taken."""
_RECOVERY_S = 5.0
"""How long there must be room before a step is taken back; doubles each time that was too early."""
_RECOVERY_MAX_S = 80.0
_ROOM = 0.8
"""There is room while latencies stay below this share of the budget."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is still done.

    Attributes:
        text: for diagnostics.
        points, vectors: whether the cloud, and tasks with maps of three floats a pixel, are made and published; the network
            computes its tasks all the same.
        full_rate: whether every frame may be taken; else the worker rests as long as it worked.
    """

    text: str
    points: bool = True
    vectors: bool = True
    full_rate: bool = True


STEPS: tuple[Step, ...] = (
    Step("everything"),
    Step("no points", points=False),
    Step("no points, no maps of vectors", points=False, vectors=False),
    Step("no points, no maps of vectors, half the rate", points=False, vectors=False, full_rate=False),
)


class Degradation:
    """Decides the step from the latency of every frame and whether the device throttles.

    Args:
        budget_s: longest latency from arrival to publishing, judged by the median of two seconds; 0 switches off.
        clock: monotonic seconds.
    """

    def __init__(self, *, budget_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget_s = budget_s
        self._clock = clock
        self._level = 0
        self._changed_s = clock()
        self._recent: deque[tuple[float, float]] = deque()
        self._missed_since_s: float | None = None
        self._room_since_s: float | None = None
        self._recovery_s = _RECOVERY_S
        self._recovered_s: float | None = None

    @property
    def level(self) -> int:
        """Index into STEPS; 0 is everything."""
        return self._level

    @property
    def step(self) -> Step:
        """What is still done."""
        return STEPS[self._level]

    def observe(self, latency_s: float | None, *, throttled: bool = False) -> bool:
        """A frame was published this late, or left out (None). Returns whether the step changed.

        While none is published there is room: a step that leaves out all that somebody listens to would otherwise never be
        taken back, as nothing is measured under it.
        """
        now = self._clock()
        if latency_s is not None:
            self._recent.append((now, latency_s))
        while self._recent and now - self._recent[0][0] > _MISSED_FOR_S:
            self._recent.popleft()
        if self.budget_s <= 0 and not throttled:
            return self._reset(now)
        ordered = sorted(latency for _, latency in self._recent)
        typical = ordered[len(ordered) // 2] if ordered else 0.0
        missed = throttled or (self.budget_s > 0 and typical > self.budget_s)
        room = not throttled and (self.budget_s <= 0 or typical < _ROOM * self.budget_s)
        self._missed_since_s = (self._missed_since_s if self._missed_since_s is not None else now) if missed else None
        self._room_since_s = (self._room_since_s if self._room_since_s is not None else now) if room else None
        measured = latency_s is not None or throttled
        if measured and self._missed_since_s is not None and now - max(self._missed_since_s, self._changed_s) >= _MISSED_FOR_S:
            return self._shed(now)
        if self._room_since_s is not None and now - max(self._room_since_s, self._changed_s) >= self._recovery_s:
            return self._recover(now)
        return False

    def _shed(self, now: float) -> bool:
        if self._level == len(STEPS) - 1:
            return False
        if self._recovered_s is not None and now - self._recovered_s < 2 * self._recovery_s:
            self._recovery_s = min(2 * self._recovery_s, _RECOVERY_MAX_S)  # coming back was too early
        return self._move(self._level + 1, now)

    def _recover(self, now: float) -> bool:
        if self._level == 0:
            self._recovery_s = _RECOVERY_S
            return False
        self._recovered_s = now
        return self._move(self._level - 1, now)

    def _reset(self, now: float) -> bool:
        self._missed_since_s = self._room_since_s = None
        if self._level and now - self._changed_s >= self._recovery_s:
            return self._recover(now)
        return False

    def _move(self, level: int, now: float) -> bool:
        self._level, self._changed_s = level, now
        self._missed_since_s = self._room_since_s = None
        self._recent.clear()
        return True
