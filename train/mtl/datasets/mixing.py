"""Part of one frame pasted into another one: image and truths of the same pixels, by rectangle or by class.

CutMix: Yun et al. 2019, arXiv:1905.04899. ClassMix: Olsson et al. 2020, arXiv:2007.07936. Truths of a batch are for cameras of
the same focal length, so that pasted depth and normals explain the pasted pixels as they did before.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from edge_mtl.tasks import VOID, Specs
from mtl.datasets.augment import SeenFrame
from mtl.tasks import head_of

__all__ = ["class_mask", "paste", "rectangle_mask"]

Array = np.ndarray


def rectangle_mask(size: tuple[int, int], rng: np.random.Generator) -> Array:
    """(H, W) bool, true in a rectangle of the image's shape: its share of the area is uniform in 0..1, its centre anywhere,
    and what lies outside of the image is cut off."""
    height, width = size
    side = math.sqrt(rng.random())
    high, wide = round(height * side), round(width * side)
    middle, centre = int(rng.integers(height)), int(rng.integers(width))
    mask = np.zeros(size, bool)
    mask[max(0, middle - high // 2) : middle + (high + 1) // 2, max(0, centre - wide // 2) : centre + (wide + 1) // 2] = True
    return mask


def class_mask(labels: Array, rng: np.random.Generator) -> Array:
    """(H, W) bool, true at half of the classes, rounded up, of a map (H, W) uint8; pixels without a class are false."""
    present = np.unique(labels)
    present = present[present != VOID]
    chosen = rng.permutation(present)[: (len(present) + 1) // 2]
    table = np.zeros(VOID + 1, bool)
    table[chosen] = True
    return table[labels]


def paste(one: SeenFrame, other: SeenFrame, mask: Array, tasks: Specs, *, stride: int, phase: tuple[int, int]) -> SeenFrame:
    """`one` with the pixels of `other` where the mask (H, W) is true; truths are at pixels phase + stride * (i, j).

    A truth that only one of them has is unknown at the other's pixels.
    """
    coarse = mask[phase[0] :: stride, phase[1] :: stride]
    truths: dict[str, Any] = {}
    for task, spec in tasks.items():
        here, there = one.truths.get(task), other.truths.get(task)
        if here is not None or there is not None:
            truths[task] = head_of(spec).pasted(spec, here, there, coarse)
    return replace(one, image=np.where(mask[..., None], other.image, one.image), truths=truths)
