"""Boxes on images: their outlines in colour, with a caption each. Knows pixels and text; knows nothing about tasks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.image.lettering import Colour, put_text, text_width

__all__ = ["draw_boxes"]

Image = NDArray[np.uint8]

_DARK: Colour = (20, 20, 20)
_WHITE: Colour = (255, 255, 255)
_BRIGHT = 140
"""Colours that are brighter, 0..255, have dark captions."""


def draw_boxes(frame: Image, boxes: NDArray[np.float32], captions: Sequence[str], colours: Sequence[Colour]) -> Image:
    """A copy of (H, W, 3) uint8 RGB with boxes on it, the first one on top.

    Args:
        boxes: (N, 4) edges in pixels, whose centres are at whole numbers.
        captions: one each; "" for none.
        colours: one each.
    """
    image = np.ascontiguousarray(frame).copy()
    height, width = image.shape[:2]
    line, size = max(1, round(min(height, width) / 200)), int(np.clip(height / 26, 9, 28))
    for (left, top, right, bottom), caption, colour in reversed(list(zip(boxes.tolist(), captions, colours, strict=True))):
        start = min(max(round(left + 0.5), 0), width - 1), min(max(round(top + 0.5), 0), height - 1)
        stop = min(max(round(right - 0.5), start[0]), width - 1), min(max(round(bottom - 0.5), start[1]), height - 1)
        for inset in range(min(line, *(1 + (b - a) // 2 for a, b in zip(start, stop, strict=True)))):
            corners = (start[0] + inset, start[1] + inset), (stop[0] - inset, stop[1] - inset)
            cv2.rectangle(image, *corners, colour, 1)
        if caption:
            _write(image, caption, start, size, colour)
    return image


def _write(image: Image, caption: str, corner: tuple[int, int], size: int, colour: Colour) -> None:
    """A caption on its colour, above the upper left corner of a box; in it where there is no room."""
    high, wide = round(1.25 * size), text_width(caption, size=size) + round(0.5 * size)
    left = max(min(corner[0], image.shape[1] - wide), 0)
    top = corner[1] - high if corner[1] >= high else corner[1]
    cv2.rectangle(image, (left, top), (left + wide - 1, top + high - 1), colour, cv2.FILLED)
    ink = _DARK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > _BRIGHT else _WHITE
    put_text(image, caption, (left + round(0.25 * size), top + round(0.93 * size)), size=size, colour=ink)
