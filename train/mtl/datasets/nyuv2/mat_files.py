"""MATLAB's files of NYUv2 that are not HDF5: their variables, or one kind of error."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtl.datasets.nyuv2.layout import DatasetError

__all__ = ["read_numbers"]


def read_numbers(path: Path, *names: str, where: str) -> list[np.ndarray]:
    """(N,) float64 of each variable, in the order of `names`.

    Args:
        where: what says where the file is to be had; it ends every message.
    Raises:
        DatasetError: the file cannot be read, lacks a variable, or holds something else than numbers.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(str(path), variable_names=list(names))
        found = {name: np.asarray(content[name], np.float64).ravel() for name in names if name in content}
    except Exception as exc:  # SciPy raises a dozen kinds on damaged files
        raise DatasetError(f"{path} cannot be read ({exc}). {where}") from exc
    if missing := [name for name in names if name not in found]:
        raise DatasetError(f"{path} has no variable {missing[0]}. {where}")
    return list(found.values())
