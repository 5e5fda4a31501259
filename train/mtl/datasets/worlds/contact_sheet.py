"""Panels in a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

__all__ = ["tiled"]

S = TypeVar("S")


def tiled(samples: Iterable[S], panel: Callable[[S], np.ndarray], columns: int) -> np.ndarray:
    """Panels of all samples, (.., .., 3) uint8 RGB; places of the last row that are left over are black."""
    panels = [panel(sample) for sample in samples]
    panels += [np.zeros_like(panels[0])] * (-len(panels) % columns)
    rows = [np.concatenate(panels[start : start + columns], 1) for start in range(0, len(panels), columns)]
    return np.concatenate(rows, 0)
