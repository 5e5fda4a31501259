"""Sensitivity as an image: one line per block, a bar per head, and what it gains in time. Knows layout only."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.evaluation.sensitivity.report import Sensitivity
from edge_mtl.image.lettering import Colour, put_text, text_width
from edge_mtl.image.panel import BACKGROUND, FAINT, INK

__all__ = ["draw_sensitivity"]

Image = NDArray[np.uint8]

_HEADS: tuple[Colour, ...] = ((94, 168, 255), (255, 176, 84), (132, 214, 132), (226, 132, 214), (214, 206, 96))
_FASTER: Colour = (120, 200, 120)
_SLOWER: Colour = (226, 104, 96)
_QUIET_DB, _LOUD_DB = 65.0, 20.0
"""SQNR at which a bar is empty, and full."""

_LINE, _BAR, _GAP, _MARGIN, _SIZE = 34, 190, 26, 18, 17
_GAIN_WIDTH = 150


def draw_sensitivity(found: Sensitivity) -> Image:
    """(H, W, 3) uint8 RGB: blocks from the most sensitive to the least; longer bars are noisier, numbers are decibels."""
    rows = found.ranked()
    heads = list(rows[0].sqnr_db) if rows else []
    timed = any(row.gain is not None for row in rows)
    names = _GAP + max([text_width(row.name, size=_SIZE) for row in rows] + [80])
    width = 2 * _MARGIN + names + len(heads) * (_BAR + _GAP) + (_GAIN_WIDTH + _GAP if timed else 0)
    title = f"{found.bundle}: one block at a time in INT8 ({found.target}, {found.frames} frames)"
    width = max(width, 2 * _MARGIN + text_width(title, size=_SIZE, bold=True))
    image: Image = np.full((2 * _MARGIN + (len(rows) + 2) * _LINE, width, 3), BACKGROUND, np.uint8)
    put_text(image, title, (_MARGIN, _MARGIN + 16), size=_SIZE, colour=INK, bold=True)
    base = _MARGIN + _LINE + 20
    columns = {head: _MARGIN + names + number * (_BAR + _GAP) for number, head in enumerate(heads)}
    colours = {head: _HEADS[number % len(_HEADS)] for number, head in enumerate(heads)}
    for head, x in columns.items():
        put_text(image, f"{head}, dB", (x, base), size=_SIZE - 2, colour=colours[head])
    gain_x = _MARGIN + names + len(heads) * (_BAR + _GAP)
    if timed:
        put_text(image, "time saved", (gain_x, base), size=_SIZE - 2, colour=FAINT)
    largest = max([abs(row.gain) for row in rows if row.gain is not None] + [0.01])
    for number, row in enumerate(rows):
        y = base + (number + 1) * _LINE
        put_text(image, row.name, (_MARGIN, y), size=_SIZE, colour=INK)
        for head, x in columns.items():
            share = float(np.clip((_QUIET_DB - row.sqnr_db[head]) / (_QUIET_DB - _LOUD_DB), 0.0, 1.0))
            _bar(image, x, y, _BAR - 52, share, colours[head])
            put_text(image, f"{row.sqnr_db[head]:.1f}", (x + _BAR - 44, y), size=_SIZE - 2, colour=FAINT)
        if row.gain is not None:
            middle = gain_x + 45
            length = round(45 * abs(row.gain) / largest)
            left = middle if row.gain > 0 else middle - length
            cv2.rectangle(image, (left, y - 11), (left + length, y), _FASTER if row.gain > 0 else _SLOWER, cv2.FILLED)
            put_text(image, f"{100 * row.gain:+.1f}%", (gain_x + 96, y), size=_SIZE - 2, colour=FAINT)
    return image


def _bar(image: Image, x: int, y: int, width: int, share: float, colour: Colour) -> None:
    cv2.rectangle(image, (x, y - 11), (x + width, y), (38, 43, 54), cv2.FILLED)
    if share > 0:
        cv2.rectangle(image, (x, y - 11), (x + max(1, round(width * share)), y), colour, cv2.FILLED)
