"""Classes of ADE20K as those of NYU-13, for networks of others: to measure them on NYUv2, and to learn from them.

A table by hand: each of the 150 classes of the SceneParsing benchmark (Zhou et al. 2017, "Scene Parsing through ADE20K
Dataset", in the order of its objectInfo150) goes to the class of NYU-13 (Couprie et al. 2013) that such things have in NYUv2.
What is not named below is "objects": plants, lamps, pillows, people, and what no room has.
"""

from __future__ import annotations

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks.nyu13 import NYU13_CLASSES

__all__ = ["CLASSES", "nyu13_of"]

CLASSES = 150

_NUMBERS: dict[str, dict[int, str]] = {
    "bed": {8: "bed"},
    "books": {68: "book"},
    "ceiling": {6: "ceiling"},
    "chair": {20: "chair", 31: "armchair", 32: "seat", 70: "bench", 76: "swivel chair", 98: "ottoman", 111: "stool"},
    "floor": {4: "floor", 7: "road", 12: "sidewalk", 14: "earth", 29: "rug", 53: "path"},
    "furniture": {
        11: "cabinet",
        25: "shelf",
        36: "wardrobe",
        45: "chest of drawers",
        46: "counter",
        50: "fireplace",
        51: "refrigerator",
        56: "case",
        63: "bookcase",
        74: "kitchen island",
        100: "buffet",
        119: "oven",
    },
    "picture": {23: "painting", 101: "poster", 150: "flag"},
    "sofa": {24: "sofa"},
    "table": {16: "table", 34: "desk", 57: "pool table", 65: "coffee table", 71: "countertop"},
    "tv": {75: "computer", 90: "television", 131: "screen", 142: "crt screen", 144: "monitor"},
    "wall": {1: "wall", 15: "door"},
    "window": {9: "window", 19: "curtain", 64: "blind"},
}
"""Numbers of ADE20K from 1, with their names; by class of NYU-13."""


def nyu13_of(planes: int) -> np.ndarray:
    """(planes,) uint8, class of NYU-13 by index of a network's output.

    Args:
        planes: of the output: 150 classes, or 151 with "none of them" first, which becomes "objects".
    Raises:
        BuildError: another number.
    """
    if planes not in (CLASSES, CLASSES + 1):
        raise BuildError(
            f"the output has {planes} classes: expected ADE20K's 150, or 151 with a first one for none. "
            "Give a network of ADE20K; others need a table of their own, as in train/mtl/datasets/nyuv2/ade20k.py"
        )
    table = np.full(CLASSES + 1, NYU13_CLASSES.index("objects"), np.uint8)
    for name, numbers in _NUMBERS.items():
        table[list(numbers)] = NYU13_CLASSES.index(name)
    return table[CLASSES + 1 - planes :]
