"""Which stamps may follow which: duplicates and stragglers are left out, a clock that was set back starts a new timeline.

Knows nanoseconds; knows nothing about messages. Ages are not measured here: they are taken from the monotonic clock.
"""

from __future__ import annotations

__all__ = ["StampOrder"]

JUMP_NS = 1_000_000_000
"""A stamp this far behind its predecessor is a clock set back (a bag that starts over), not a late frame."""


class StampOrder:
    """Judges the stamps of one stream.

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
