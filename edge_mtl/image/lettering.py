"""Text on images, with the font that OpenCV carries: no font files, no plotting library.

Knows glyphs and colours; knows nothing about predictions. OpenCV 5 brings a proportional outline font; older versions
only have stroke fonts, which serve as the fallback. What a font cannot write is written without its accents, or as its code
point in brackets, such as <6905>: nothing turns into question marks.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Colour", "legible", "put_text", "text_width"]

Colour = tuple[int, int, int]
"""RGB, 0..255."""

BOLD = 600
_PLAIN = str.maketrans({"×": "x", "→": ">", "–": "-", "·": "|", "°": " deg", "≈": "~", "…": "..."})
_NEVER_A_GLYPH = "\ue000"
"""The first character for private use: fonts draw what stands for all that they lack."""
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
    text, (x, y) = legible(text), position
    if outline is not None:
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            put_text(canvas, text, (x + dx, y + dy), size=size, colour=outline, bold=bold)
    font = _outline_font()
    if font is not None:
        cv2.putText(canvas, text, (x, y), colour, font, size, BOLD if bold else 400)
    else:
        thickness = 2 if bold and size > 16 else 1
        cv2.putText(canvas, text, (x, y), _STROKE_FONT, size / _STROKE_UNIT, colour, thickness, cv2.LINE_AA)


def text_width(text: str, *, size: int, bold: bool = False) -> int:
    """Width of a line of text in pixels."""
    return _measured(legible(text), size, bold, _outline_font())


@lru_cache(maxsize=4096)
def _measured(text: str, size: int, bold: bool, font: Any | None) -> int:
    if font is not None:
        return int(cv2.getTextSize((1 << 14, 1 << 14), text, (0, 0), font, size, BOLD if bold else 400)[2])
    return int(cv2.getTextSize(text, _STROKE_FONT, size / _STROKE_UNIT, 1)[0][0])


def legible(text: str) -> str:
    """`text` in characters that the font has; those it lacks without accents, else as <code point in hexadecimal>."""
    return text if text.isascii() else "".join(map(_legible, text))


@lru_cache(maxsize=4096)
def _legible(character: str) -> str:
    if character.isascii() or _has_glyph(character):
        return character
    if unicodedata.category(character) == "Cf":  # joins its neighbours; has no shape of its own
        return ""
    plain = character.translate(_PLAIN)
    if plain == character:
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or f"<{ord(character):04X}>"


def _has_glyph(character: str) -> bool:
    """Whether the outline font has its shape, and not only what stands for shapes it lacks."""
    font = _outline_font()
    return font is not None and not np.array_equal(_shape(character, font), _shape(_NEVER_A_GLYPH, font))


def _shape(character: str, font: Any) -> NDArray[np.uint8]:
    canvas = np.zeros((48, 96, 3), np.uint8)
    cv2.putText(canvas, character, (8, 32), (255, 255, 255), font, 24, 400)
    return canvas


@lru_cache(maxsize=1)
def _outline_font() -> Any | None:
    make = getattr(cv2, "FontFace", None)
    return None if make is None else make("sans")
