"""Signs that a robot sees nothing although nothing failed: silence while images come, a camera that repeats itself or is dark.

Knows counts, times and pixels; imports nothing of ROS. What is said of them is in `report`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge_mtl_ros.frame_queue import Counts

__all__ = ["LOST", "ImageWatch", "Remark", "Silence", "SilenceWatch"]

Array = np.ndarray

LOST = ("rejected", "aged", "stale_stamp", "shed", "withheld")
"""What becomes of frames that somebody waits for in vain. Not `replaced`, which a slow network does to a fast camera, nor
`failed`, which is an error of its own."""

_SAMPLES = 64
"""Pixels along each side that are looked at in every image."""
_CONTRAST = 8
"""Of 255 levels, between the darkest and the brightest hundredth of an image: what is left of a covered lens is noise."""
_PAUSE_S = 3.0
"""Images farther apart are not one run: nobody listened meanwhile, or the camera was away."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that /diagnostics warns of.

    Attributes:
        kind: what it is, without its numbers.
        text: a sentence without its full stop.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing was published although somebody listens and images come.

    Attributes:
        lasted_s: since the last frame was published, or somebody began to listen.
        lost: how many frames came to which end since then, of LOST, above zero.
    """

    lasted_s: float
    lost: Mapping[str, int]


class SilenceWatch:
    """Finds silence in the counts of frames; one thread asks, several times a second.

    While a frame is being worked on nothing is called silent that was not before: a network that takes a second for a frame is
    slow, not blind.

    Args:
        clock: monotonic seconds; another one is for tests.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: Counts | None = None
        self._since_s = 0.0
        self._silent = False

    def look(self, counts: Counts, *, listening: bool, after_s: float) -> Silence | None:
        """The silence of now, None where there is none.

        Args:
            listening: the node is active, and somebody listens to something that it may send.
            after_s: how long a silence may last before it is one.
        """
        now_s = self._clock()
        if not listening or self._before is None or counts.published != self._before.published:
            self._before, self._since_s, self._silent = (counts if listening else None), now_s, False
            return None
        lost = {name: grown for name in LOST if (grown := _count(counts, name) - _count(self._before, name)) > 0}
        lasted_s = now_s - self._since_s
        self._silent = bool(lost) and lasted_s > after_s and (self._silent or not counts.working)
        return Silence(lasted_s, lost) if self._silent else None


class ImageWatch:
    """Notices images that repeat one another to the last bit, and those without any contrast.

    The noise of a sensor makes two images of one scene differ; a driver that hands out its last buffer again and again, with
    new stamps, does not. One thread shows images, others ask.
    """

    def __init__(self) -> None:
        self._image: Array | None = None
        self._sample: Array | None = None
        self._seen_s = self._same_since_s = self._flat_since_s = float("-inf")
        self._lasting_s = (0.0, 0.0)

    def see(self, frame: Array, now_s: float) -> None:
        """The next image, (H, W, 3) uint8, at a time in seconds; kept until the one after it."""
        height, width = frame.shape[:2]
        sample = frame[:: max(1, height // _SAMPLES), :: max(1, width // _SAMPLES)].copy()
        paused = now_s - self._seen_s > _PAUSE_S
        same = not paused and self._is_last(frame, sample)
        if not same:
            self._same_since_s = now_s
        if paused or not _is_flat(sample):
            self._flat_since_s = now_s
        self._image, self._sample, self._seen_s = frame, sample, now_s
        self._lasting_s = now_s - self._same_since_s, now_s - self._flat_since_s

    def remarks(self, after_s: float) -> tuple[Remark, ...]:
        """What has lasted longer than this; nothing for 0."""
        same_s, flat_s = self._lasting_s
        if after_s <= 0:
            return ()
        if flat_s > after_s:
            return (
                Remark("no contrast", f"images without contrast for {flat_s:.0f} s: a covered lens, no light, or too much"),
            )
        if same_s > after_s:
            text = f"the camera repeats one image for {same_s:.0f} s: its driver hangs, or what it shows is not a camera's"
            return (Remark("repeats", text),)
        return ()

    def _is_last(self, frame: Array, sample: Array) -> bool:
        if self._image is None or self._sample is None or self._image.shape != frame.shape:
            return False
        return np.array_equal(self._sample, sample) and np.array_equal(self._image, frame)


def _is_flat(sample: Array) -> bool:
    """Whether one colour of a sample (h, w, 3) has no contrast, its extreme hundredths left out."""
    ordered = np.sort(sample[..., 1], axis=None)
    left_out = ordered.size // 100
    return int(ordered[-1 - left_out]) - int(ordered[left_out]) < _CONTRAST


def _count(counts: Counts, name: str) -> int:
    return counts.rejected if name == "rejected" else counts.drops[name]
