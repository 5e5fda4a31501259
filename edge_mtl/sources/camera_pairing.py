"""Which camera_info belongs to which image of a recording: the one whose stamp is nearest, before or after.

Drivers send the two one after the other, in either order, and either may be written first. Knows stamps and times; knows
nothing about bags.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_mtl.ros import Camera

__all__ = ["LOOK_AHEAD_NS", "MOST_WAITING", "CameraPairing"]

T = TypeVar("T")

LOOK_AHEAD_NS = 500_000_000
"""How much later in the recording a camera_info may come, in nanoseconds."""
MOST_WAITING = 16
"""Images that wait for one; the next one ends the wait of the first."""
_KEPT = 256
"""Messages of the camera that are kept."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """When something was: by its header, 0 where that says nothing, and in the recording; both in nanoseconds."""

    stamp_ns: int
    time_ns: int

    def distance(self, other: _Moment) -> tuple[int, bool]:
        """How far another one is, and whether it is later."""
        if self.stamp_ns and other.stamp_ns:
            return abs(other.stamp_ns - self.stamp_ns), other.stamp_ns > self.stamp_ns
        return abs(other.time_ns - self.time_ns), other.time_ns > self.time_ns


class CameraPairing(Generic[T]):
    """Images and cameras go in as they were recorded; images come out, in their order, each with its camera."""

    def __init__(self) -> None:
        self._images: deque[tuple[_Moment, T]] = deque()
        self._cameras: deque[tuple[_Moment, Camera]] = deque(maxlen=_KEPT)

    def camera(self, stamp_ns: int, time_ns: int, camera: Camera) -> None:
        """Add what a camera_info says."""
        self._cameras.append((_Moment(stamp_ns, time_ns), camera))

    def image(self, stamp_ns: int, time_ns: int, image: T) -> None:
        """Add an image."""
        self._images.append((_Moment(stamp_ns, time_ns), image))

    def ready(self, time_ns: int | None) -> Iterator[tuple[T, Camera | None]]:
        """The images that no later camera_info can be nearer to, or that have waited long enough, and their cameras.

        Args:
            time_ns: how far the recording was read; None: to its end.
        """
        while self._images:
            moment, image = self._images[0]
            nearest = min(((moment.distance(other), -at) for at, (other, _) in enumerate(self._cameras)), default=None)
            waits = time_ns is not None and time_ns - moment.time_ns <= LOOK_AHEAD_NS and len(self._images) <= MOST_WAITING
            if waits and not self._is_settled(moment):
                return
            self._images.popleft()
            yield image, None if nearest is None else self._cameras[-nearest[1]][1]

    def _is_settled(self, moment: _Moment) -> bool:
        """Whether a camera_info of the same moment or a later one was seen: those that follow are farther."""
        found = (moment.distance(other) for other, _ in self._cameras)
        return any(later or not distance for distance, later in found)
