"""Where calibration frames may come from: a folder, a data set's train split, a video, a ROS bag, or frames given by number."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_mtl.errors import CalibrationError, FrameError, SourceEndedEarly
from edge_mtl.image.bit_depth import FULL_BITS
from edge_mtl.sources.bags import BAG_SUFFIXES
from edge_mtl.sources.frame_source import Frame, FrameSource, Still, identity_of
from edge_mtl.sources.open_source import is_camera, open_source
from edge_mtl.sources.videos import VIDEO_SUFFIXES

__all__ = ["given_frames", "open_calibration_source"]


def open_calibration_source(
    path: Path,
    *,
    topic: str | None = None,
    every: int = 1,
    bits: int = FULL_BITS,
    on_end: Callable[[SourceEndedEarly], None] | None = None,
) -> FrameSource:
    """The frames that `path` names, which can be walked several times.

    Args:
        path: a folder of images (of a folder with a sub-folder "train" only that one), a video, or a ROS 1 or 2 bag.
        topic: of the bag's images; needed where it has several.
        every: take only every n-th frame of a video or bag.
        bits: of images with 16 bits a channel: how many the camera fills.
        on_end: called by each walk that ends before the number of frames that is announced; see `FrameSource.frames`.
    Raises:
        CalibrationError: there is no such thing, or it holds no frames; also where a walk finds the source unreadable.
        BackendUnavailable: a bag, and the package rosbags is not installed.
    """
    if is_camera(path) or not path.exists():
        raise CalibrationError(f"{path} does not exist: a folder of images, a video or a ROS bag was expected.")
    if path.is_file() and path.suffix.lower() not in (*VIDEO_SUFFIXES, *BAG_SUFFIXES):
        raise CalibrationError(
            f"{path} is neither a folder of images, nor a video ({' '.join(VIDEO_SUFFIXES)}), "
            f"nor a bag ({' '.join(BAG_SUFFIXES)})."
        )
    with _unusable():
        source = open_source(path, topic=topic, every=every, dataset=True, bits=bits)

    def stills() -> Generator[Still]:
        with _unusable():
            yield from source.walk(on_end)

    return replace(source, stills=stills)


def given_frames(name: str, load: Callable[[int], np.ndarray], count: int, *, identity: str) -> FrameSource:
    """Frames by number from anything else, for example a training set.

    Args:
        load: frame `index` as (H, W, 3) uint8 RGB.
        identity: whatever the content depends on.
    Raises:
        CalibrationError: there are none.
    """
    if count < 1:
        raise CalibrationError(f"{name} holds no frames.")

    def stills() -> Generator[Still]:
        for index in range(count):
            title = f"{index:06d}"
            yield Still(title, lambda index=index, title=title: Frame(title, load(index)))  # type: ignore[misc]

    return FrameSource(name, "frames", f"frames of {name}", identity_of("frames", identity, [str(count)]), count, stills)


@contextmanager
def _unusable() -> Generator[None]:
    """A source that cannot be read is an error of calibration here."""
    try:
        yield
    except FrameError as exc:
        raise CalibrationError(str(exc)) from exc
