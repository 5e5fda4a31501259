"""NYUv2's class numbers: 894 names -> 40 classes -> 13. Knows the numbers; the first step is in a file that the user has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_mtl.tasks import VOID
from mtl.datasets.nyuv2.layout import DatasetError
from mtl.datasets.nyuv2.mat_files import read_numbers

__all__ = ["NAMES", "NYU40_TO_NYU13", "read_class_mapping"]

NAMES = 894
"""Object names in the labelled set; label 0 is void."""

# fmt: off
NYU40_TO_NYU13: tuple[int, ...] = (
    12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5,
    7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7,
)
# fmt: on
"""Class 1..13 of class 1..40 (Gupta et al. 2013 to Couprie et al. 2013), as in SceneNet's and MTAN's labels."""


def read_class_mapping(path: Path) -> np.ndarray:
    """(895,) uint8: class 0..12, or 255 for void, of every label 0..894 of the official file.

    Args:
        path: classMapping40.mat (its variable `mapClass`: 894 numbers from 1 to 40), or a text file of those 894 numbers.
    Raises:
        DatasetError: the file cannot be read, or does not hold 894 numbers from 1 to 40.
    """
    forty = read_numbers(path, "mapClass", where=_WHERE)[0] if path.suffix == ".mat" else _read_text(path)
    if forty.shape != (NAMES,) or not (forty.min() >= 1 and forty.max() <= len(NYU40_TO_NYU13)):
        spread = f", from {forty.min():g} to {forty.max():g}" if forty.size else ""
        raise DatasetError(f"{path} should map {NAMES} names to classes 1 to 40, found {forty.size} numbers{spread}")
    table = np.full(NAMES + 1, VOID, np.uint8)
    table[1:] = np.array(NYU40_TO_NYU13, np.uint8)[forty.astype(np.int64) - 1] - 1
    return table


def _read_text(path: Path) -> np.ndarray:
    try:
        return np.array(path.read_text(encoding="utf-8").replace(",", " ").split(), np.float64)
    except (OSError, ValueError) as exc:
        raise DatasetError(f"{path} cannot be read ({exc}). {_WHERE}") from exc


_WHERE = "classMapping40.mat (894 names to 40 classes) is in the repository ankurhanda/nyuv2-meta-data"
