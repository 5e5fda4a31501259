"""What was asked for on the command line: one frame of a source, one pixel of it; or one line that says why it is not there.

Used by free_floor.py and ar_placement.py.
"""

from __future__ import annotations

import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.sources.open_source import open_source


def frame_of(source: str, number: int) -> np.ndarray:
    """Frame `number`, counted from 0, of an image or video: (H, W, 3) uint8 RGB."""
    if number < 0:
        raise SystemExit(f"--frame should be 0 or more; found {number}")
    count = 0
    try:
        for count, frame in enumerate(open_source(source).frames(), 1):
            if count == number + 1:
                return frame.pixels
    except FrameError as error:
        raise SystemExit(str(error)) from None
    raise SystemExit(f"{source} has no frame {number}: --frame should be 0 to {count - 1}")


def pixel_of(text: str, size: tuple[int, int]) -> tuple[int, int]:
    """Column and row, from words like "320,400", of an image of `size` (H, W)."""
    height, width = size
    expected = f"--at should be column,row with a column from 0 to {width - 1} and a row from 0 to {height - 1}; found {text}"
    try:
        column, row = (int(value) for value in text.split(","))
    except ValueError:
        raise SystemExit(expected) from None
    if not (0 <= column < width and 0 <= row < height):
        raise SystemExit(expected)
    return column, row
