"""Capture devices of this machine, which give frames once and until somebody stops them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import cv2
import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.sources.frame_source import Frame, FrameSource, Still, identity_of
from edge_mtl.sources.videos import frame_rate

__all__ = ["camera_source"]

_MOST_DIGITS = 4
"""Of a camera's number."""


def camera_source(text: str, *, clock: Callable[[], float] = time.monotonic) -> FrameSource:
    """The camera that `text` names, "camera:N" or "N"; opened at once.

    Args:
        clock: seconds; frames have the time at which they were asked for.
    Raises:
        FrameError: it names no camera, or the camera gives no frame.
    """
    number = text.removeprefix("camera:")
    if not number.isdecimal() or len(number) > _MOST_DIGITS:
        raise FrameError(f"{text[:40]} names no camera: expected camera:N with a number, such as camera:0.")
    capture = cv2.VideoCapture(int(number))
    first = capture.read()[1] if capture.isOpened() else None
    if first is None:
        capture.release()
        raise FrameError(f"Camera {number} cannot be opened: see `ls /dev/video*` for the cameras here, and who uses them.")
    name = f"camera-{number}"
    walks = iter([first])

    def stills() -> Generator[Still]:
        bgr = next(walks, None)
        if bgr is None:
            raise FrameError(f"{text} was read already: a camera gives its frames once.")
        index, began = 0, clock()
        try:
            while bgr is not None:
                rgb = np.ascontiguousarray(np.asarray(bgr, np.uint8)[:, :, ::-1])
                frame = Frame(f"{name}-{index:06d}", rgb, clock() - began)
                yield Still(frame.name, lambda frame=frame: frame)  # type: ignore[misc]
                bgr = capture.read()[1]
                index += 1
        finally:
            capture.release()

    identity = identity_of("camera", name, [])
    return FrameSource(name, "camera", f"frames of {text}", identity, None, stills, frame_rate=frame_rate(capture))
