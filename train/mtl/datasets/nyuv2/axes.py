"""Which way the components of NYUv2's stored normals point: copies differ."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edge_mtl.errors import BuildError
from mtl.datasets.normal_axes import AxesFound, NormalAxes
from mtl.datasets.normal_axes import detect_axes as detect
from mtl.datasets.nyuv2.layout import DatasetError

__all__ = ["AxesFound", "NormalAxes", "detect_axes"]

_STATED = "as in --axes +x-y-z (of a folder that is there: python train/prepare_nyuv2.py adopt FOLDER --axes +x-y-z)"


def detect_axes(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> AxesFound:
    """As `mtl.datasets.normal_axes.detect_axes`. Raises DatasetError, which says how axes are stated."""
    try:
        return detect(pairs)
    except BuildError as exc:
        raise DatasetError(f"{exc}, {_STATED}") from exc
