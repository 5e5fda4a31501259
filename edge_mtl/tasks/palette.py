"""Colours for any number of classes: each as far from those before it as can be, so that a class keeps its colour.

Distances are those of OKLab (Ottosson 2020, "A perceptual color space for image processing"), in which equal steps look
about equally large.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edge_mtl.image import VOID

__all__ = ["generated_palette"]

Array = np.ndarray

_FIRST = (230, 85, 70)
_BLACK = (0, 0, 0)
"""Void; no class comes near it."""
_STEPS = 16
"""Levels of each channel among which colours are chosen."""
_DARKEST, _BRIGHTEST = 0.42, 0.94
"""Lightness of OKLab, 0..1: what is darker looks like void, what is brighter like glare."""
_GREY = 0.03
"""Least chroma: grey looks like the frame that the colour lies over."""

_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def generated_palette(count: int) -> Array:
    """(count, 3) uint8 RGB, at most 255 colours, all different; the first ones do not depend on `count`. Read-only.

    Raises:
        ValueError: more colours than labels can have classes.
    """
    if not 0 <= count <= VOID:
        raise ValueError(f"there are 0 to {VOID} colours; {count} were asked for")
    return _colours()[:count]


@lru_cache(maxsize=1)
def _colours() -> Array:
    """(255, 3) uint8 RGB: farthest first among a grid of colours."""
    levels = np.round(np.linspace(0, 255, _STEPS)).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = oklab(grid)
    usable = (lab[:, 0] >= _DARKEST) & (lab[:, 0] <= _BRIGHTEST) & (np.hypot(lab[:, 1], lab[:, 2]) >= _GREY)
    grid, lab = grid[usable], lab[usable]
    chosen = [np.array(_FIRST, np.uint8)]
    nearest = np.minimum(_distances(lab, _BLACK), _distances(lab, _FIRST))
    while len(chosen) < VOID:
        # Rounded, so that processors that round differently choose alike; of equal ones the first is taken.
        farthest = int(np.round(nearest, 9).argmax())
        chosen.append(grid[farthest])
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[farthest], axis=1))
    palette = np.stack(chosen)
    palette.setflags(write=False)
    return palette


def oklab(rgb: Array) -> Array:
    """(N, 3) uint8 sRGB -> (N, 3) float64: lightness 0..1, green to red, blue to yellow."""
    share = np.asarray(rgb, np.float64) / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _LMS.T) @ _LAB.T)


def _distances(lab: Array, colour: tuple[int, int, int]) -> Array:
    return np.asarray(np.linalg.norm(lab - oklab(np.array([colour], np.uint8)), axis=1))
