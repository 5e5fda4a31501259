"""Depth images and laser scans of a bag, each with the colour image that is nearest in time. Needs the extra "bags"."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.sources.bags import read_message
from edge_mtl.sources.frame_source import Frame, FrameSource, Still

__all__ = ["DEPTH_ENCODINGS", "SCAN", "Paired", "depth_of", "paired", "scan_of"]

Array = np.ndarray
SCAN = "sensor_msgs/msg/LaserScan"
DEPTH_ENCODINGS = {"16UC1": 0.001, "mono16": 0.001, "32FC1": 1.0}
"""Metres per unit, by encoding: REP 118."""

_WITHIN_NS = 50_000_000
_KEPT = 64


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """A frame and the message that belongs to it, of the type that was asked for."""

    frame: Frame
    message: Any


def paired(
    source: FrameSource, topic: str, kind: str, *, limit: int | None = None, on_skip: Callable[[str], None] | None = None
) -> Iterator[Paired]:
    """The frames of a bag, each with the message of `topic` whose stamp is nearest, at most 50 ms apart.

    Args:
        source: of a bag.
        kind: its type, that of images or SCAN.
        limit: stop after this many.
        on_skip: called with "name: reason" for each frame that has none, or cannot be read.
    Raises:
        FrameError: the bag has nothing of that kind on the topic, or cannot be read.
    """
    if source.tapped is None:
        raise FrameError(f"{source.name} is no bag: topics are of a ROS bag only.")
    if topic in source.left_out:
        raise FrameError(f"{source.name}: {topic} cannot be read: {source.left_out[topic]}.")
    recent: deque[tuple[int, Any]] = deque(maxlen=_KEPT)
    seen: dict[str, str] = {}

    def tap(reader: Any, connection: Any, time_ns: int, raw: bytes) -> None:
        seen[connection.topic] = connection.msgtype
        if connection.topic == topic and connection.msgtype == kind:
            try:
                message = read_message(reader, raw, kind)
            except FrameError as exc:
                skip(f"{topic} at {time_ns} ns: {exc}")
                return
            recent.append((_stamp_ns(message.header.stamp), message))

    def skip(reason: str) -> None:
        if on_skip is not None:
            on_skip(reason)

    def match(frame: Frame) -> Paired | None:
        assert frame.stamp is not None
        own = frame.stamp.sec * 10**9 + frame.stamp.nanosec
        nearest = min(recent, key=lambda entry: abs(entry[0] - own), default=None)
        if nearest is None or abs(nearest[0] - own) > _WITHIN_NS:
            skip(f"{frame.name}: nothing on {topic} within {_WITHIN_NS // 10**6} ms of it")
            return None
        return Paired(frame, nearest[1])

    def frames(stills: Iterable[Still]) -> Iterator[Frame]:
        """Each once the next one was read: what is nearest to a frame may come after it, before the next."""
        waiting: Frame | None = None
        for still in stills:
            try:
                loaded = still.load()
            except FrameError as exc:
                skip(f"{still.name}: {exc}")
                continue
            if waiting is not None:
                yield waiting
            waiting = loaded
        if waiting is not None:
            yield waiting

    given = 0
    with closing(source.tapped(tap)) as stills:
        for frame in frames(stills):
            found = match(frame)
            if found is not None:
                yield found
                given += 1
                if given == limit:
                    return
    if seen.get(topic) != kind:
        having = ", ".join(sorted(name for name, of in seen.items() if of == kind)) or "none"
        raise FrameError(f"{source.name} has no {kind} on {topic}; topics of that type: {having}.")


def depth_of(message: Any) -> Array:
    """(H, W) float32 metres along z of a sensor_msgs/Image, 0 where unknown. Raises FrameError: it is no depth image."""
    encoding, height, width = str(message.encoding), int(message.height), int(message.width)
    if encoding not in DEPTH_ENCODINGS:
        raise FrameError(f"a depth image is {', '.join(DEPTH_ENCODINGS)}; found {encoding!r}")
    kind = np.dtype(np.float32 if encoding == "32FC1" else np.uint16).newbyteorder(">" if message.is_bigendian else "<")
    step, data = int(message.step), np.frombuffer(memoryview(message.data), np.uint8)
    if min(height, width) < 1 or step < width * kind.itemsize or data.size < (height - 1) * step + width * kind.itemsize:
        raise FrameError(f"a depth image of {height}x{width} and step {step} needs more than {data.size} bytes")
    rows = [data[row * step : row * step + width * kind.itemsize].view(kind) for row in range(height)]
    depth = np.stack(rows).astype(np.float32) * np.float32(DEPTH_ENCODINGS[encoding])
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0.0))


def scan_of(message: Any) -> tuple[Array, Array]:
    """((N,) ranges in metres, NaN where nothing was met, (N,) angles in radians) of a sensor_msgs/LaserScan."""
    ranges = np.asarray(message.ranges, np.float64)
    angles = float(message.angle_min) + float(message.angle_increment) * np.arange(ranges.size)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(ranges) & (ranges >= float(message.range_min)) & (ranges <= float(message.range_max))
    return np.where(good, ranges, np.nan), angles


def _stamp_ns(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)
