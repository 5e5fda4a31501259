"""The byte of a pixel in BDD100K's lane masks: bits to lane marks, lane marks to bits, and to the classes that are learnt.

Bits 2 to 0 are the category, bit 3 is set where there is no lane mark, bit 4 is set where it is dashed, bit 5 where it runs
across the road. Files have 255 where there is no lane mark; 0 is a crosswalk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = [
    "BACKGROUND",
    "BACKGROUND_BIT",
    "CATEGORIES",
    "CATEGORY_BITS",
    "DASHED_BIT",
    "DIRECTIONS",
    "LANE_CLASSES",
    "NO_MARK",
    "STYLES",
    "VERTICAL_BIT",
    "LaneMarks",
    "decode",
    "encode",
    "lane_byte",
    "lane_class",
    "lane_classes",
]

Array = np.ndarray

CATEGORIES = (
    "crosswalk",
    "double other",
    "double white",
    "double yellow",
    "road curb",
    "single other",
    "single white",
    "single yellow",
)
"""By the value of bits 2 to 0."""

STYLES = ("solid", "dashed")
"""By bit 4."""

DIRECTIONS = ("parallel", "vertical")
"""By bit 5: along the road, across it."""

CATEGORY_BITS = 0b111
BACKGROUND_BIT = 1 << 3
DASHED_BIT = 1 << 4
VERTICAL_BIT = 1 << 5

BACKGROUND = 255
"""The byte of a pixel without a lane mark."""

NO_MARK = 255
"""The category of a pixel without a lane mark, in arrays of categories."""

LANE_CLASSES = ("background", "line", "crosswalk", "curb")
"""What the task `lane` tells apart."""

_CLASS_OF = {"crosswalk": 2, "road curb": 3}
_LINE = 1


@dataclass(frozen=True, slots=True, eq=False)
class LaneMarks:
    """What a lane mask says.

    Attributes:
        categories: (H, W) uint8, index of `CATEGORIES`, `NO_MARK` where there is none.
        dashed, vertical: (H, W) bool, index of `STYLES` and of `DIRECTIONS`; False where there is no lane mark.
    """

    categories: Array
    dashed: Array
    vertical: Array


def lane_byte(category: str, *, style: str = "solid", direction: str = "parallel") -> int:
    """The byte of one lane mark by its words. Raises ValueError for others."""
    for value, known in ((category, CATEGORIES), (style, STYLES), (direction, DIRECTIONS)):
        if value not in known:
            raise ValueError(f"expected one of {', '.join(known)}, found {value!r}")
    return CATEGORIES.index(category) | DASHED_BIT * STYLES.index(style) | VERTICAL_BIT * DIRECTIONS.index(direction)


def lane_class(category: str) -> int:
    """The index in `LANE_CLASSES` of a category. Raises ValueError for one that there is not."""
    if category not in CATEGORIES:
        raise ValueError(f"expected one of {', '.join(CATEGORIES)}, found {category!r}")
    return _CLASS_OF.get(category, _LINE)


def decode(stored: Array) -> LaneMarks:
    """Bytes of a mask as lane marks.

    Args:
        stored: (H, W) uint8.
    Raises:
        ValueError: bytes that are of no lane mark and no background; they are named.
    """
    known = _known(stored)
    categories = np.where(known, stored & CATEGORY_BITS, NO_MARK).astype(np.uint8)
    return LaneMarks(categories, known & (stored & DASHED_BIT != 0), known & (stored & VERTICAL_BIT != 0))


def encode(marks: LaneMarks) -> Array:
    """(H, W) uint8, the bytes of a mask: the inverse of `decode`.

    Raises:
        ValueError: categories that there are not.
    """
    known = marks.categories != NO_MARK
    if (marks.categories[known] >= len(CATEGORIES)).any():
        raise ValueError(f"expected categories 0 to {len(CATEGORIES) - 1} and {NO_MARK}, found {marks.categories[known].max()}")
    bits = marks.categories + np.uint8(DASHED_BIT) * marks.dashed + np.uint8(VERTICAL_BIT) * marks.vertical
    return np.where(known, bits, BACKGROUND).astype(np.uint8)


def lane_classes(stored: Array) -> Array:
    """(H, W) uint8, index of `LANE_CLASSES`, of the bytes of a mask. Raises ValueError as `decode` does."""
    known = _known(stored)
    return np.where(known, _CLASSES[stored & CATEGORY_BITS], 0).astype(np.uint8)


def _known(stored: Array) -> Array:
    """(H, W) bool: pixels of lane marks."""
    known = stored & BACKGROUND_BIT == 0
    strange = np.unique(stored[known & (stored > (CATEGORY_BITS | DASHED_BIT | VERTICAL_BIT))])
    if strange.size:
        raise ValueError(f"bytes {', '.join(map(str, strange[:5].tolist()))}, which set bits that mean nothing")
    return np.asarray(known)


_CLASSES = np.array([lane_class(category) for category in CATEGORIES], np.uint8)
