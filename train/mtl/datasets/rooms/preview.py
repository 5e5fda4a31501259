"""Contact sheets: image, coloured labels, depth and normals side by side, one frame a row."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .labels import PALETTE, VOID
from .render import RoomSample

_FAR_M = 8.0


def panel(sample: RoomSample) -> np.ndarray:
    """(H, 4 W, 3) uint8 RGB."""
    label = np.where((sample.label == VOID)[..., None], np.uint8(0), PALETTE[np.minimum(sample.label, len(PALETTE) - 1)])
    near = 1 - (sample.depth_m / _FAR_M).clip(0, 1)
    depth = np.stack([near, 1 - np.abs(2 * near - 1), 1 - near], -1) * (sample.depth_m > 0)[..., None]
    normals = (sample.normals * np.array([1, -1, -1], np.float32) + 1) / 2
    pictures = [sample.image, label, (depth * 255).astype(np.uint8), (normals * 255).astype(np.uint8)]
    return np.concatenate(pictures, 1)


def contact_sheet(samples: Iterable[RoomSample], columns: int = 1) -> np.ndarray:
    """Panels of all samples in a grid, (.., .., 3) uint8 RGB."""
    panels = [panel(sample) for sample in samples]
    blank = np.zeros_like(panels[0])
    panels += [blank] * (-len(panels) % columns)
    rows = [np.concatenate(panels[start : start + columns], 1) for start in range(0, len(panels), columns)]
    return np.concatenate(rows, 0)
