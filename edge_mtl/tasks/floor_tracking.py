"""The floor over time: a camera fixed to a robot sees it at one angle, also in frames that show none of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks.floor import FloorPlane, Vector, find_floor
from edge_mtl.tasks.points import CloudMaps

__all__ = ["FloorOptions", "FloorTracker", "TrackedFloor"]

_MOST_FACTOR = 2.0
"""Between the camera's height as given and as seen; beyond it, what is seen is no floor."""


@dataclass(frozen=True, slots=True)
class FloorOptions:
    """How the floor is found.

    Attributes:
        classes: names of floors, in any case.
        stride: every so many pixels, in both directions, are looked at.
        keep_s: how long a floor that was seen counts.
        height_m: of the camera, where it is known; 0 where it is not.
        pitch_deg: how far the camera looks downwards, where that is known; None where it is to be seen.
    """

    classes: Collection[str] = ("floor",)
    stride: int = 4
    keep_s: float = 5.0
    height_m: float = 0.0
    pitch_deg: float | None = None


@dataclass(frozen=True, slots=True)
class TrackedFloor:
    """The floor of one frame.

    Attributes:
        plane: in the camera frame, after `scale`; None where it is not known.
        scale: what the frame's depth is multiplied by, so that the floor, in the median, is as far below as it is known to be.
        text: for people: whether it is seen, remembered, given or unknown.
    """

    plane: FloorPlane | None
    scale: float
    text: str


class FloorTracker:
    """Finds the floor of frame after frame of one camera, fixed to a robot on level ground.

    Its normal is the median of those seen in the last `keep_s`, because one frame's may be off by degrees. Its distance is
    that of the frame itself, whose depth may be off by a factor of its own; the last median where the frame shows no floor.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, FloorPlane]] = deque(maxlen=256)

    def __call__(self, maps: CloudMaps, camera: Intrinsics, now_s: float, options: FloorOptions) -> TrackedFloor:
        """The floor of one frame; `now_s` by a clock that does not jump."""
        while self._seen and not 0 <= now_s - self._seen[0][0] <= options.keep_s:
            self._seen.popleft()
        given = None
        if options.pitch_deg is not None:
            given = FloorPlane.of_mount(height_m=options.height_m, pitch_deg=options.pitch_deg)
        up = None if given is None else given.up
        plane = find_floor(maps, camera, classes=options.classes, stride=options.stride, up=up)
        if plane is not None and options.height_m > 0 and not _plausible(plane, options.height_m):
            plane = None
        if plane is not None:
            self._seen.append((now_s, plane))
            if up is None and len(self._seen) > 1:
                up = self._median_up()
                plane = find_floor(maps, camera, classes=options.classes, stride=options.stride, up=up) or plane
        scale = 1.0
        if self._seen and options.height_m > 0:
            scale = options.height_m / self._median_height()
        if plane is not None:
            return _scaled(plane, scale, f"seen {plane.height_m:.2f} m below, {plane.pitch_deg:.0f} degrees down")
        if self._seen:
            remembered = FloorPlane(up or self._median_up(), self._median_height())
            return _scaled(remembered, scale, f"not seen for {now_s - self._seen[-1][0]:.1f} s, as before")
        if given is not None and given.height_m > 0:
            return TrackedFloor(given, 1.0, "not seen, as the camera is mounted")
        return TrackedFloor(None, 1.0, "not seen: what is not of its class is an obstacle")

    def _median_height(self) -> float:
        return float(np.median([plane.height_m for _, plane in self._seen]))

    def _median_up(self) -> Vector:
        median = np.median([plane.up for _, plane in self._seen], axis=0)
        x, y, z = (float(value) for value in median / np.linalg.norm(median))
        return x, y, z


def _plausible(plane: FloorPlane, height_m: float) -> bool:
    return 1 / _MOST_FACTOR < plane.height_m / height_m < _MOST_FACTOR


def _scaled(plane: FloorPlane, scale: float, text: str) -> TrackedFloor:
    return TrackedFloor(FloorPlane(plane.up, plane.height_m * scale), scale, text)
