"""The 13 NYU classes in their canonical order, and the colours used in previews."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

VOID = 255


class Label(IntEnum):
    """NYU-13 class index."""

    BED = 0
    BOOKS = 1
    CEILING = 2
    CHAIR = 3
    FLOOR = 4
    FURNITURE = 5
    OBJECTS = 6
    PICTURE = 7
    SOFA = 8
    TABLE = 9
    TV = 10
    WALL = 11
    WINDOW = 12


CLASS_NAMES = tuple(label.name.lower() for label in Label)

PALETTE = np.array(
    [
        [0, 0, 255], [233, 89, 48], [0, 218, 0], [149, 0, 240], [222, 241, 24], [255, 206, 206],
        [0, 224, 229], [106, 136, 204], [117, 29, 41], [240, 35, 235], [0, 167, 156], [249, 139, 0],
        [225, 229, 194],
    ],
    np.uint8,
)  # fmt: skip
