"""Text on images, with the font that OpenCV carries: no font files, no plotting library.

Knows glyphs and colours; knows nothing about predictions. OpenCV 5 brings a proportional outline font; older versions
only have stroke fonts, which serve as the fallback.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Colour", "put_text", "text_width"]

Colour = tuple[int, int, int]
"""RGB, 0..255."""

BOLD = 600
_PLAIN = str.maketrans({"×": "x", "→": ">", "–": "-", "·": "|", "°": " deg", "≈": "~", "…": "..."})
_STROKE_FONT = cv2.FONT_HERSHEY_DUPLEX
_STROKE_UNIT = 30.0
"""Pixels of text size at which a stroke font has scale 1."""


def put_text(
    canvas: NDArray[np.uint8],
    text: str,
    position: tuple[int, int],
    *,
    size: int,
    colour: Colour,
    bold: bool = False,
    outline: Colour | None = None,
) -> None:
    """Write one line of text into `canvas` (H, W, 3) uint8 RGB, in place; what lies outside the canvas is cut off.

    Args:
        position: (x, y) of the left end of the baseline, pixels.
        size: height of the font in pixels.
        outline: colour of a one-pixel halo, for text on a busy image.
    """
    x, y = position
    if outline is not None:
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            put_text(canvas, text, (x + dx, y + dy), size=size, colour=outline, bold=bold)
    font = _outline_font()
    if font is not None:
        cv2.putText(canvas, text, (x, y), colour, font, size, BOLD if bold else 400)
    else:
        plain, thickness = text.translate(_PLAIN), 2 if bold and size > 16 else 1
        cv2.putText(canvas, plain, (x, y), _STROKE_FONT, size / _STROKE_UNIT, colour, thickness, cv2.LINE_AA)


def text_width(text: str, *, size: int, bold: bool = False) -> int:
    """Width of a line of text in pixels."""
    font = _outline_font()
    if font is not None:
        return int(cv2.getTextSize((1 << 14, 1 << 14), text, (0, 0), font, size, BOLD if bold else 400)[2])
    return int(cv2.getTextSize(text.translate(_PLAIN), _STROKE_FONT, size / _STROKE_UNIT, 1)[0][0])


@lru_cache(maxsize=1)
def _outline_font() -> Any | None:
    make = getattr(cv2, "FontFace", None)
    return None if make is None else make("sans")
