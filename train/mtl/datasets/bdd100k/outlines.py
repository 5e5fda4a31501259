"""Scalabel's outlines, vertices joined by lines and Bezier curves, as points and as pixels. Knows no classes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edge_mtl.numbers import is_number

__all__ = ["FARTHEST_PX", "LANE_WIDTH_PX", "Outline", "outline_of", "paint_area", "paint_line", "points_of"]

Array = np.ndarray
Outline = tuple[list[float], str, bool]
"""x, y, x, y, ... of the vertices, the type of each ("L" or "C"), and whether the last one is joined to the first."""

LANE_WIDTH_PX = 3
"""How wide lane marks are painted: about as wide as in the data set's own masks of 720x1280, for which nothing is stated."""

_STEPS = 16
"""Straight pieces of a curve."""
FARTHEST_PX = 1e5
"""Coordinates of an image are no farther from its corner."""
_SHIFT = 4
"""Bits of a pixel that OpenCV draws with."""


def outline_of(poly: Any, *, closed: bool | None = None) -> Outline:
    """An outline as labels have it: `vertices`, `types` and `closed`, or a list of [x, y, type], as in the release of 2018.

    Args:
        closed: whether it is, whatever it says; None: as it says, else it is not.
    Raises:
        ValueError: it is no such outline, or a curve has no end.
    """
    if isinstance(poly, list):
        poly = {"vertices": [one[:2] if isinstance(one, list) else one for one in poly],
                "types": "".join(str(one[2]) if isinstance(one, list) and len(one) > 2 else "L" for one in poly)}  # fmt: skip
    if not isinstance(poly, dict) or not isinstance(poly.get("vertices"), list):
        raise ValueError(f"expected vertices and types, found {str(poly)[:40]}")
    vertices = poly["vertices"]
    numbers = [value for one in vertices if isinstance(one, list) and len(one) == 2 for value in one]
    if len(vertices) < 2 or len(numbers) != 2 * len(vertices) or not all(is_number(one) for one in numbers):
        raise ValueError(f"expected two vertices or more of two numbers, found {str(vertices)[:60]}")
    if max(map(abs, numbers)) > FARTHEST_PX:
        raise ValueError(f"a vertex is {max(map(abs, numbers)):g} pixels away")
    types = poly.get("types") or "L" * len(vertices)
    if not isinstance(types, str) or len(types) != len(vertices) or set(types) - {"L", "C"}:
        raise ValueError(f"expected a type for each of {len(vertices)} vertices, L or C, found {str(types)[:60]!r}")
    joined = bool(poly.get("closed")) if closed is None else closed
    outline = [float(one) for one in numbers], types, joined
    points_of(np.array(outline[0]).reshape(-1, 2), types, closed=outline[2])
    return outline


def points_of(vertices: Array, types: str, *, closed: bool) -> Array:
    """The outline as straight pieces.

    A "C" begins a cubic Bezier curve from the point before: it and the next vertex are control points, and the vertex after
    them, of whatever type, is where the curve ends; of a closed outline that may be its first one.

    Args:
        vertices: (N, 2) x, y.
        types: N letters, "L" or "C".
    Returns:
        (M, 2); of a closed outline the first point is not repeated.
    Raises:
        ValueError: a curve has no end.
    """
    count = len(vertices)
    points = [vertices[:1]]
    place = 1
    while place < count:
        if types[place] == "L":
            points.append(vertices[place : place + 1])
            place += 1
            continue
        end = place + 2
        if end > count or (end == count and not closed):
            raise ValueError("a curve has control points and no end")
        first, second, last = vertices[place], vertices[place + 1], vertices[end % count]
        curve = _bezier(points[-1][-1], first, second, last)
        points.append(curve if end < count else curve[:-1])
        place = end + 1
    return np.concatenate(points)


def paint_area(canvas: Array, points: Array, value: int) -> None:
    """Fill what an outline encloses, closed or not.

    Args:
        canvas: (H, W) uint8, which is painted on.
        points: (M, 2) x, y from the image's corner; the centre of a pixel is half a pixel from its edges.
    """
    cv2.fillPoly(canvas, [_fixed(points)], value, cv2.LINE_8, _SHIFT)


def paint_line(canvas: Array, points: Array, value: int, *, closed: bool, width_px: int) -> None:
    """Paint along an outline, an odd number of pixels wide: OpenCV's own thick lines are wider than is asked for."""
    line = np.zeros(canvas.shape, np.uint8)
    cv2.polylines(line, [_fixed(points)], closed, 1, 1, cv2.LINE_8, _SHIFT)
    canvas[cv2.dilate(line, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))) != 0] = value


def _fixed(points: Array) -> Array:
    """(M, 1, 2) int32 in OpenCV's fractions of pixels, whose centres it has at whole numbers."""
    return np.rint((points - 0.5) * (1 << _SHIFT)).astype(np.int32)[:, None]


def _bezier(start: Array, first: Array, second: Array, end: Array) -> Array:
    """(_STEPS, 2): points of the curve without its start."""
    at = (np.arange(1, _STEPS + 1) / _STEPS)[:, None]
    rest = 1 - at
    return rest**3 * start + 3 * rest**2 * at * first + 3 * rest * at**2 * second + at**3 * end
