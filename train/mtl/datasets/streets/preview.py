"""Contact sheets of streets: image with its objects and kinds, classes, drivable area with lanes, depth and normals."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from edge_mtl.image.lettering import put_text
from mtl.datasets.bdd100k.lane_bits import lane_classes
from mtl.datasets.worlds.contact_sheet import tiled

from .classes import OBJECT_CLASSES, PALETTE, SCENES, TIMES, WEATHERS, Label
from .render import StreetSample
from .road import FAR_M
from .tasks import object_truth

__all__ = ["contact_sheet", "panel"]

_NEAR_M = 2.0
_TEXT_PX = 11
_LEAST_FOR_TEXT_PX = 96
_WHITE, _DARK = (255, 255, 255), (20, 20, 20)
_DRIVABLE = np.array([[219, 94, 86], [86, 140, 219], [0, 0, 0]], np.uint8)
_LANES = np.array([[0, 0, 0], [255, 255, 255], [255, 200, 40], [120, 220, 120]], np.uint8)
_COLOURS = [
    PALETTE[Label.PERSON if name == "pedestrian" else Label[name.upper().replace(" ", "_")]].tolist() for name in OBJECT_CLASSES
]
"""Of objects: those of their pixels."""


def panel(sample: StreetSample) -> np.ndarray:
    """(H, 5 W, 3) uint8 RGB."""
    lanes = _LANES[lane_classes(sample.lanes)]
    ground = np.where(lanes.any(-1, keepdims=True), lanes, _DRIVABLE[sample.drivable])
    known = sample.depth_m > 0
    near = 1 - np.log(np.where(known, sample.depth_m, FAR_M) / _NEAR_M).clip(0) / np.log(FAR_M / _NEAR_M)
    depth = np.stack([near, 1 - np.abs(2 * near - 1), 1 - near], -1) * known[..., None]
    normals = (sample.normals * np.array([1, -1, -1], np.float32) + 1) / 2
    parts = [_with_objects(sample), PALETTE[sample.label], ground, (depth * 255).astype(np.uint8)]
    return np.concatenate([*parts, (normals * 255).astype(np.uint8)], 1)


def _with_objects(sample: StreetSample) -> np.ndarray:
    """The image with a box around what is seen of each object, thin where it is not judged, and its kinds."""
    image = sample.image.copy()
    truth = object_truth(sample.objects, (image.shape[0], image.shape[1]))
    for (left, top, right, bottom), index, crowd in zip(truth.xyxy, truth.classes, truth.crowd, strict=True):
        first, last = (round(left + 0.5), round(top + 0.5)), (round(right - 0.5), round(bottom - 0.5))
        colour = [value // 2 for value in _COLOURS[index]] if crowd else _COLOURS[index]
        cv2.rectangle(image, first, last, colour, 1)
    if image.shape[0] >= _LEAST_FOR_TEXT_PX:
        words = f"{SCENES[sample.scene]}, {WEATHERS[sample.weather]}, {TIMES[sample.time]}"
        put_text(image, words, (4, image.shape[0] - 4), size=_TEXT_PX, colour=_WHITE, outline=_DARK)
    return image


def contact_sheet(samples: Iterable[StreetSample], columns: int = 1) -> np.ndarray:
    """Panels of all samples in a grid, (.., .., 3) uint8 RGB."""
    return tiled(samples, panel, columns)
