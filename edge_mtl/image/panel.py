"""Images that people look at: tiles with titles, class names on their regions, legends, colour bars.

Knows layout; knows nothing about engines or files. Everything is (H, W, 3) uint8 RGB; lengths are pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.image.colour import blend, colour_depth, colour_labels, depth_scale, logarithmic_range
from edge_mtl.image.lettering import Colour, put_text, text_width

__all__ = [
    "BACKGROUND",
    "FAINT",
    "INK",
    "column",
    "draw_depth",
    "draw_labels",
    "draw_legend",
    "fit",
    "legend",
    "panel",
    "row",
    "titled",
]

Image = NDArray[np.uint8]
Entry = tuple[str, Colour]
"""A name and the colour that stands for it."""

BACKGROUND: Colour = (17, 20, 27)
INK: Colour = (236, 239, 244)
FAINT: Colour = (150, 158, 172)
GAP = 10

_TITLE_HEIGHT = 30
_MIN_REGION_SHARE = 0.012
_PANEL_WIDTH = 640


def draw_labels(frame: Image, labels: NDArray[np.uint8], *, classes: Sequence[str], palette: NDArray[np.uint8]) -> Image:
    """The frame with its classes in colour, their borders drawn and their names written on the larger regions."""
    image = blend(frame, colour_labels(labels, palette=palette))
    edges = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    image[edges] = (image[edges] * 0.45).astype(np.uint8)
    size = int(np.clip(labels.shape[0] / 20, 12, 40))
    for text, (x, y) in _region_names(labels, classes, size):
        put_text(image, text, (x, y), size=size, colour=(255, 255, 255), bold=True, outline=(20, 20, 20))
    return image


def draw_depth(depth_m: NDArray[np.float32], range_m: tuple[float, float], *, logarithmic: bool = False) -> Image:
    """Depth in colour, with the colour bar and its two ends (metres) in the lower left corner; "log" where it is that."""
    near, far = logarithmic_range(*range_m) if logarithmic else range_m
    right = f"{far:.1f} m, log" if logarithmic else f"{far:.1f} m"
    return _with_scale(colour_depth(depth_m, range_m, logarithmic=logarithmic), f"{near:.1f} m", right)


def panel(frame: Image, tiles: Sequence[tuple[str, Image]], *, title: str = "") -> Image:
    """The frame and titled drawings as one image: side by side, three drawings two by two, more in rows of three."""
    width = min(_PANEL_WIDTH, frame.shape[1]) if frame.shape[1] >= 320 else 320
    small = fit(frame, width)
    boxes = [titled(small, "frame"), *(titled(fit(image, width), name) for name, image in tiles)]
    across = 2 if len(boxes) == 4 else 3
    rows = [row(boxes[start : start + across]) for start in range(0, len(boxes), across)]
    header = [_line(rows[0].shape[1], title)] if title else []
    return _bordered(column([*header, *rows]))


def titled(image: Image, title: str, note: str = "") -> Image:
    """A tile under its title, with a fainter note at the right end of the line."""
    strip = _line(image.shape[1], title, size=18)
    if note:
        put_text(strip, note, (image.shape[1] - text_width(note, size=15), 20), size=15, colour=FAINT)
    return np.vstack([strip, image])


def legend(entries: Iterable[Entry], width: int) -> Image:
    """Colour and name of each entry, wrapped to `width`."""
    placed = _Wrapped.of(entries, width, size=17)
    canvas = np.full((placed.height, width, 3), BACKGROUND, np.uint8)
    placed.draw(canvas)
    return canvas


def draw_legend(image: Image, entries: Callable[[int], Sequence[Entry]], *, most: int) -> None:
    """Write colours and names over the darkened lower edge of an image, in place.

    Args:
        entries: those to show where there is room for this many, or one more that stands for the rest.
        most: how many there are at most. Fewer are shown where they would take more than a third of the height; none where
            not even one line fits.
    """
    height, width = image.shape[:2]
    size = int(np.clip(height / 28, 9, 22))
    for count in range(most, 0, -1):
        shown = entries(count)
        placed = _Wrapped.of(shown, width, size=size)
        if shown and placed.height * 3 <= height:
            edge = image[height - placed.height :]
            edge[...] = (edge * 0.3).astype(np.uint8)
            placed.draw(edge)
            return


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """Entries in lines of text of one size: (line, x, name, colour) each."""

    size: int
    lines: int
    entries: tuple[tuple[int, int, str, Colour], ...]

    @classmethod
    def of(cls, entries: Iterable[Entry], width: int, *, size: int) -> _Wrapped:
        placed: list[tuple[int, int, str, Colour]] = []
        line = x = 0
        for name, colour in entries:
            entry = size + 1 + round(0.4 * size) + text_width(name, size=size) + round(1.2 * size)
            if x + entry > width and x:
                line, x = line + 1, 0
            placed.append((line, x, name, colour))
            x += entry
        return cls(size, line + 1, tuple(placed))

    @property
    def line_height(self) -> int:
        return round(1.76 * self.size)

    @property
    def height(self) -> int:
        return self.lines * self.line_height

    def draw(self, canvas: Image) -> None:
        swatch = self.size + 1
        for line, x, name, colour in self.entries:
            top = line * self.line_height + (self.line_height - swatch) // 2
            cv2.rectangle(canvas, (x, top), (x + swatch - 1, top + swatch - 1), colour, cv2.FILLED)
            place = (x + swatch + round(0.4 * self.size), top + round(0.88 * self.size))
            put_text(canvas, name, place, size=self.size, colour=INK)


def fit(image: Image, width: int, height: int | None = None) -> Image:
    """Scaled to `width`, keeping its shape; cut or filled with background at the bottom where `height` is given."""
    scale = width / image.shape[1]
    size = (width, max(1, round(image.shape[0] * scale)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return resized if height is None else _extended(resized[:height], width, height)


def row(images: Sequence[Image], *, gap: int = GAP) -> Image:
    """Side by side with a gap, tops aligned."""
    height = max(image.shape[0] for image in images)
    spacer = np.full((height, gap, 3), BACKGROUND, np.uint8)
    parts: list[Image] = []
    for image in images:
        parts += [_extended(image, image.shape[1], height), spacer]
    return np.hstack(parts[:-1])


def column(images: Sequence[Image], *, gap: int = GAP) -> Image:
    """One below the other with a gap, left sides aligned."""
    width = max(image.shape[1] for image in images)
    spacer = np.full((gap, width, 3), BACKGROUND, np.uint8)
    parts: list[Image] = []
    for image in images:
        parts += [_extended(image, width, image.shape[0]), spacer]
    return np.vstack(parts[:-1])


def _bordered(image: Image) -> Image:
    return np.asarray(cv2.copyMakeBorder(image, GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=BACKGROUND), np.uint8)


def _line(width: int, text: str, *, size: int = 18) -> Image:
    strip = np.full((_TITLE_HEIGHT, width, 3), BACKGROUND, np.uint8)
    put_text(strip, text, (0, 21), size=size, colour=INK)
    return strip


def _extended(image: Image, width: int, height: int) -> Image:
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def _with_scale(image: Image, left: str, right: str) -> Image:
    """A depth image with the colour bar between the texts of its two ends in the lower left corner."""
    height, width = image.shape[:2]
    size = int(np.clip(height / 22, 11, 36))
    bar_height, bar_width, margin = max(size // 2, 6), width // 4, max(size // 2, 6)
    x, y = margin + text_width(left, size=size, bold=True) + margin, height - margin - bar_height
    if x + bar_width + margin + text_width(right, size=size, bold=True) > width or y < 0:
        return image
    cv2.rectangle(image, (x - 1, y - 1), (x + bar_width, y + bar_height), (20, 20, 20), cv2.FILLED)
    image[y : y + bar_height, x : x + bar_width] = depth_scale(bar_height, bar_width)
    baseline = y + bar_height
    white, dark = (255, 255, 255), (20, 20, 20)
    put_text(image, left, (margin, baseline), size=size, colour=white, bold=True, outline=dark)
    put_text(image, right, (x + bar_width + margin, baseline), size=size, colour=white, bold=True, outline=dark)
    return image


def _region_names(labels: NDArray[np.uint8], classes: Sequence[str], size: int) -> Iterable[tuple[str, tuple[int, int]]]:
    """Name and text position of the largest region of each class, where the name fits into it."""
    for index in np.unique(labels):
        if index >= len(classes):
            continue
        count, regions, stats, _ = cv2.connectedComponentsWithStats((labels == index).astype(np.uint8))
        if count < 2:
            continue
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        if stats[largest, cv2.CC_STAT_AREA] < _MIN_REGION_SHARE * labels.size:
            continue
        inside = cv2.copyMakeBorder((regions == largest).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
        y, x = np.unravel_index(int(np.argmax(distance)), distance.shape)
        width = text_width(classes[index], size=size, bold=True)
        if distance[y, x] < size * 0.7 or distance[y, x] * 2.4 < width:
            continue
        left = int(np.clip(x - width // 2, 2, max(labels.shape[1] - width - 2, 2)))
        yield classes[index], (left, int(y) + size // 3)
