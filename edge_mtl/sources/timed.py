"""Frames with their times, from all that can be shown: images, folders, videos, cameras, and bags of ROS 1 or 2.

Knows which reader is for what; reading is done in `edge_mtl.sources.media` and `edge_mtl.sources.bags`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_mtl.errors import CalibrationError, FrameError
from edge_mtl.sources.media import open_source

if TYPE_CHECKING:
    from edge_mtl.sources.recordings import Still

__all__ = ["TimedFrame", "TimedSource", "open_timed"]

_BAG_SUFFIXES = (".bag", ".db3", ".mcap")


@dataclass(frozen=True, slots=True, eq=False)
class TimedFrame:
    """One frame: `pixels` (H, W, 3) uint8 RGB; `time_s` seconds since the first, None for images, which have no times."""

    name: str
    pixels: np.ndarray
    time_s: float | None


@dataclass(frozen=True, slots=True, eq=False)
class TimedSource:
    """Frames in order, read lazily and once; closing the iterator frees the file or device.

    Attributes:
        kind: "image", "folder", "video", "camera" or "bag".
        count: number of frames, None where it is not known.
    """

    kind: str
    name: str
    count: int | None
    frames: Iterator[TimedFrame]


def open_timed(
    text: str,
    *,
    topic: str | None = None,
    limit: int | None = None,
    on_skip: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TimedSource:
    """Open what `text` names.

    Args:
        topic: of a bag's images, where it has several.
        limit: stop after this many frames.
        on_skip: called with "name: reason" for each image or message that cannot be read.
        clock: seconds, of cameras.
    Raises:
        FrameError: there is no such thing, or nothing in it can be read.
        BackendUnavailable: a bag, and the package that reads it is not installed.
    """
    path = Path(text)
    if path.suffix.lower() in _BAG_SUFFIXES or (path / "metadata.yaml").is_file():
        if not path.exists():
            raise FrameError(f"{path} does not exist: expected a bag.")
        return _bag(path, topic, limit, on_skip)
    source = open_source(text, limit=limit, on_skip=on_skip)
    period_s = 1.0 / source.frame_rate if source.kind == "video" and source.frame_rate else None

    def frames() -> Iterator[TimedFrame]:
        began = clock()
        for index, frame in enumerate(source.frames):
            camera_s = clock() - began if source.kind == "camera" else None
            yield TimedFrame(frame.name, frame.pixels, camera_s if period_s is None else index * period_s)

    return TimedSource(source.kind, source.name, source.count, frames())


def _bag(path: Path, topic: str | None, limit: int | None, on_skip: Callable[[str], None] | None) -> TimedSource:
    from edge_mtl.sources.bags import bag_frames

    with _as_a_source():
        source = bag_frames(path, topic=topic)

    def stills() -> Iterator[Still]:
        with _as_a_source():
            yield from source.stills()

    def frames() -> Iterator[TimedFrame]:
        first_ns: int | None = None
        shown = 0
        for still in stills():
            if limit is not None and shown >= limit:
                return
            time_ns = int(still.name.rpartition("-")[2])
            first_ns = time_ns if first_ns is None else first_ns
            try:
                pixels = still.load()
            except FrameError as exc:
                if on_skip is not None:
                    on_skip(f"{still.name}: {exc}")
                continue
            shown += 1
            yield TimedFrame(still.name, pixels, (time_ns - first_ns) / 1e9)

    count = source.count if limit is None or source.count is None else min(source.count, limit)
    return TimedSource("bag", source.name, count, frames())


@contextmanager
def _as_a_source() -> Iterator[None]:
    """What is wrong with calibration frames elsewhere is wrong with a source here."""
    try:
        yield
    except CalibrationError as exc:
        raise FrameError(str(exc)) from exc
