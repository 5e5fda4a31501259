"""Memory of large frames: what would not fit is refused before it is made, what fails all the same is an error of that frame.

Without this a frame too large for its container ends the process: Linux gives memory on trust and kills who uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge_mtl import opencv
from edge_mtl.control_groups import memory_left
from edge_mtl.errors import FrameError

__all__ = ["out_of_memory", "require_memory"]

cv2 = opencv.require()

_UNCHECKED_BYTES = 256 << 20
"""Needs below this are not held against what is left, which takes a tenth of a millisecond to find out."""


def require_memory(needed_bytes: int, what: str, advice: str) -> None:
    """Hold what a frame needs against what is left, in the machine and in the control groups of this process.

    Args:
        what: begins the message: "images/a.jpg".
        advice: what to do, a sentence.
    Raises:
        FrameError: it does not fit.
    """
    if needed_bytes < _UNCHECKED_BYTES:
        return
    left = memory_left()
    if left is not None and needed_bytes > left:
        raise FrameError(
            f"{what} is too large for the memory: about {_in_gib(needed_bytes)} expected, {_in_gib(left)} left. {advice}"
        )


@contextmanager
def out_of_memory(what: str, advice: str) -> Iterator[None]:
    """Memory that runs out within the block, in Python or OpenCV, is a FrameError about `what`."""
    try:
        yield
    except MemoryError as exc:
        raise FrameError(f"{what} is too large for the memory. {advice}") from exc
    except cv2.error as exc:
        if getattr(exc, "code", None) != cv2.Error.StsNoMem:  # one raised in Python has none
            raise
        raise FrameError(f"{what} is too large for the memory. {advice}") from exc


def _in_gib(number: int) -> str:
    return f"{number / (1 << 30):.1f} GiB"
