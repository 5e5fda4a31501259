"""The 13 classes of NYUv2 and their colours: the classes of a `labels` task whose manifest names none."""

from __future__ import annotations

import numpy as np

__all__ = ["NYU13_CLASSES", "NYU13_PALETTE"]

NYU13_CLASSES: tuple[str, ...] = (
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
)
"""The 13 classes of NYUv2, in label order (Couprie et al. 2013, arXiv:1301.3572)."""

NYU13_PALETTE: np.ndarray = np.array(
    [
        (0, 0, 255),
        (232, 88, 47),
        (0, 217, 0),
        (148, 0, 240),
        (222, 241, 23),
        (255, 205, 205),
        (0, 223, 228),
        (106, 135, 204),
        (116, 28, 41),
        (240, 35, 235),
        (0, 166, 156),
        (249, 139, 0),
        (225, 229, 194),
    ],
    dtype=np.uint8,
)
"""(13, 3) uint8 RGB, one colour per class; the conventional colours of NYU-13 pictures."""
NYU13_PALETTE.setflags(write=False)
