"""Boxes of a label map: one around every connected region of a class. Knows arrays only.

Where objects of one class touch, they share a box, and an object in two pieces has two: such boxes are pseudo-truth.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from edge_mtl.tasks import BoxTruth

__all__ = ["region_boxes"]

Array = np.ndarray


def region_boxes(labels: Array, classes: Mapping[int, int], *, pixels: float, side: float) -> BoxTruth:
    """The regions of some classes, each joined by the sides of its pixels, class by class.

    Args:
        labels: (H, W) uint8, class index.
        classes: by class index of the labels, that of the boxes; regions of other classes have none.
        pixels: how many a region has at least.
        side: how many pixels high and wide it is at least.
    """
    boxes, names = [], []
    for label, name in classes.items():
        _, _, found, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=4)
        for left, top, width, height, area in found[1:]:  # the first is what is of no region
            if area >= pixels and min(width, height) >= side:
                boxes.append((left - 0.5, top - 0.5, left + width - 0.5, top + height - 0.5))
                names.append(name)
    return BoxTruth(np.array(boxes, np.float32).reshape(-1, 4), np.array(names, np.int64), np.zeros(len(names), bool))
