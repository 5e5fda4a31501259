"""Video files, frame by frame; frames that are not asked for are passed over without decoding their images."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.errors import FrameError
from edge_mtl.files import native_path
from edge_mtl.sources.frame_source import Frame, FrameSource, Still, check_end, file_identity
from edge_mtl.sources.video_containers import codec_name, video_facts

__all__ = ["VIDEO_SUFFIXES", "frame_rate", "video_source"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")

_MAX_FRAME_RATE = 240.0
_LEAST_STEP_S = 0.001
_LEAST_FRAME_BYTES = 4
"""What a frame takes in a file at the very least, its entry in an index included: more frames than that are no count."""
_DECODED_EVERYWHERE = ("H.264", "H.265", "MPEG-4", "Motion JPEG", "VP8", "VP9", "ProRes")
"""Codecs that every FFmpeg decodes by itself."""


def video_source(path: Path, *, every: int = 1) -> FrameSource:
    """The frames of a video file, every n-th one, with the times that the container gives them.

    A walk ends in SourceEndedEarly where the file announces clearly more frames than came: `edge_mtl.sources.frame_source`
    has the rule.

    Raises:
        FrameError: it cannot be opened or holds no frame; the message names its codec.
    """
    facts = video_facts(path)
    with _opened(path) as capture:
        opened = capture.isOpened() and _grabbed(capture) and _retrieved(capture) is not None
        announced = _announced(capture, path, facts.shown) if opened else None
        rate = frame_rate(capture) if opened else 0.0
        codec = facts.codec or _four_characters(capture)
    if not opened:
        raise FrameError(_undecodable(path, codec))

    def stills() -> Generator[Still]:
        with _opened(path) as capture:
            clock, index = _Clock(rate), 0
            while _grabbed(capture):
                time_s = clock.time_s(float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0)
                if index % every == 0:
                    yield Still(f"{path.stem}-{index:06d}", partial(_frame, capture, f"{path.stem}-{index:06d}", time_s))
                index += 1
        reached = index if facts.indexed else max(index, round(clock.now_s * rate) + 1)
        check_end(path.name, index, announced, reached=reached, counted=facts.counted)

    known = None if announced is None else -(-announced // every)
    identity = file_identity("video", path, every)
    return FrameSource(path.name, "video", f"frames of {path}", identity, known, stills, frame_rate=rate)


class _Clock:
    """Times of frames in seconds since the first, always increasing.

    They are the container's. A frame that is not later than the one before is a millisecond later; where the container gives no
    times at all, frames follow each other at the frame rate.
    """

    def __init__(self, rate: float) -> None:
        self._step_s = 1.0 / rate
        self._first_s: float | None = None
        self._stands = True
        self.now_s = 0.0

    def time_s(self, position_s: float) -> float:
        """The time of the next frame, at `position_s` of the container."""
        if self._first_s is None:
            self._first_s = position_s if math.isfinite(position_s) else 0.0
            return 0.0
        since_s = position_s - self._first_s
        if math.isfinite(since_s) and since_s > self.now_s:
            self._stands, self.now_s = False, since_s
        else:
            self.now_s += self._step_s if self._stands else _LEAST_STEP_S
        return self.now_s


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
    image = _retrieved(capture)
    if image is None:
        raise FrameError("the frame cannot be decoded")
    return Frame(name, np.ascontiguousarray(image[:, :, ::-1]), time_s)


def _grabbed(capture: cv2.VideoCapture) -> bool:
    """Whether there is a next frame; a file in which OpenCV cannot go on ends there."""
    try:
        return bool(capture.grab())
    except cv2.error:
        return False


def _retrieved(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    """The image of the frame that was grabbed last; None where it cannot be decoded."""
    try:
        fine, image = capture.retrieve()
    except cv2.error:
        return None
    return np.asarray(image, np.uint8) if fine and image is not None else None


def _announced(capture: cv2.VideoCapture, path: Path, shown: float) -> int | None:
    """Frames as the container counts or estimates them; None where it says nothing that is possible."""
    count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    possible = math.isfinite(count) and 0 < count <= path.stat().st_size / _LEAST_FRAME_BYTES
    return round(count * shown) if possible else None


def _undecodable(path: Path, codec: str) -> str:
    """Why no frame of a video can be had, and what to do."""
    if not codec:
        return f"{path} cannot be decoded: it is damaged, empty or not a video. Copy it again, or give another one."
    advice = f"Convert it, for example: ffmpeg -i {path.name} -c:v libx264 -crf 18 {path.stem}-h264.mp4"
    if codec_name(codec).partition(" (")[0] in _DECODED_EVERYWHERE:
        return (
            f"{path} cannot be decoded: it holds {codec_name(codec)} video, which is damaged or empty. Copy it again. {advice}"
        )
    return (
        f"{path} cannot be decoded: it holds {codec_name(codec)} video; OpenCV {cv2.__version__} here has no decoder for it, "
        f"or it is damaged. {advice}; or install an OpenCV whose FFmpeg decodes {codec_name(codec).partition(' (')[0]}."
    )


def _four_characters(capture: cv2.VideoCapture) -> str:
    """The codec that OpenCV names; empty where it names none."""
    number = int(capture.get(cv2.CAP_PROP_FOURCC)) if capture.isOpened() else 0
    four = number.to_bytes(4, "little") if 0 < number < 1 << 32 else b""
    return four.decode("ascii") if four.isalnum() else ""


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames per second as the container or driver says; 25 where it says nothing sensible."""
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0.0 < rate <= _MAX_FRAME_RATE else 25.0
