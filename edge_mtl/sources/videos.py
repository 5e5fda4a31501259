"""Video files, frame by frame; frames that are not asked for are passed over without decoding their images."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.files import native_path
from edge_mtl.sources.frame_source import Frame, FrameSource, Still, file_identity

__all__ = ["VIDEO_SUFFIXES", "frame_rate", "video_source"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")

_MAX_FRAME_RATE = 240.0


def video_source(path: Path, *, every: int = 1) -> FrameSource:
    """The frames of a video file, every n-th one.

    Raises:
        FrameError: it cannot be opened or holds no frame.
    """
    with _opened(path) as capture:
        opened = capture.isOpened() and capture.grab() and capture.retrieve()[0]
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if opened else 0
        rate = frame_rate(capture) if opened else 0.0
    if not opened:
        raise FrameError(f"{path} cannot be decoded: it is damaged, empty or not a video.")

    def stills() -> Generator[Still]:
        with _opened(path) as capture:
            index = 0
            while capture.grab():
                if index % every == 0:
                    yield Still(f"{path.stem}-{index:06d}", partial(_frame, capture, f"{path.stem}-{index:06d}", index / rate))
                index += 1

    known = -(-count // every) if count > 0 else None
    identity = file_identity("video", path, every)
    return FrameSource(path.name, "video", f"frames of {path}", identity, known, stills, frame_rate=rate)


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    """What reads the file; whether it could be opened is for the caller to ask."""
    with native_path(path) as name:
        capture = cv2.VideoCapture(name)
        try:
            yield capture
        finally:
            capture.release()


def _frame(capture: cv2.VideoCapture, name: str, time_s: float) -> Frame:
    """The frame that was grabbed last."""
    fine, image = capture.retrieve()
    if not fine or image is None:
        raise FrameError("the frame cannot be decoded")
    return Frame(name, np.ascontiguousarray(np.asarray(image, np.uint8)[:, :, ::-1]), time_s)


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames per second as the container or driver says; 25 where it says nothing sensible."""
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0.0 < rate <= _MAX_FRAME_RATE else 25.0
