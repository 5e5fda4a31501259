"""Contact sheets: image with its objects and kind of room, coloured labels, depth and normals side by side."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from edge_mtl.image.lettering import put_text, text_width
from mtl.datasets.worlds.contact_sheet import tiled

from .instances import OBJECT_CLASSES, SCENE_CLASSES
from .labels import CLASS_NAMES, PALETTE, VOID
from .render import RoomSample

_FAR_M = 8.0
_WHITE, _DARK = (255, 255, 255), (20, 20, 20)
_TEXT_PX = 11
_LEAST_FOR_TEXT_PX = 96
"""Height of frames from which boxes have names."""


def panel(sample: RoomSample) -> np.ndarray:
    """(H, 4 W, 3) uint8 RGB."""
    label = np.where((sample.label == VOID)[..., None], np.uint8(0), PALETTE[np.minimum(sample.label, len(PALETTE) - 1)])
    near = 1 - (sample.depth_m / _FAR_M).clip(0, 1)
    depth = np.stack([near, 1 - np.abs(2 * near - 1), 1 - near], -1) * (sample.depth_m > 0)[..., None]
    normals = (sample.normals * np.array([1, -1, -1], np.float32) + 1) / 2
    pictures = [_with_objects(sample), label, (depth * 255).astype(np.uint8), (normals * 255).astype(np.uint8)]
    return np.concatenate(pictures, 1)


def _with_objects(sample: RoomSample) -> np.ndarray:
    """The image with a box around what is seen of each object, in the colour of its class, and the kind of room."""
    image = sample.image.copy()
    named = image.shape[0] >= _LEAST_FOR_TEXT_PX
    if sample.objects is not None:
        for (left, top, right, bottom), index in zip(sample.objects.visible, sample.objects.classes, strict=True):
            name = OBJECT_CLASSES[index]
            colour = tuple(PALETTE[CLASS_NAMES.index(name)].tolist())
            first, last = (round(left + 0.5), round(top + 0.5)), (round(right - 0.5), round(bottom - 0.5))
            cv2.rectangle(image, first, last, colour, 1)
            if named:
                put_text(image, name, (first[0] + 2, first[1] + _TEXT_PX), size=_TEXT_PX, colour=_WHITE, outline=_DARK)
    if named and sample.scene is not None:
        name = SCENE_CLASSES[sample.scene]
        at = (image.shape[1] - text_width(name, size=_TEXT_PX, bold=True) - 4, image.shape[0] - 4)
        put_text(image, name, at, size=_TEXT_PX, colour=_WHITE, bold=True, outline=_DARK)
    return image


def contact_sheet(samples: Iterable[RoomSample], columns: int = 1) -> np.ndarray:
    """Panels of all samples in a grid, (.., .., 3) uint8 RGB."""
    return tiled(samples, panel, columns)
