"""The four arrays of an NYUv2 frame: read from .npy whatever their dtype, checked, cast; and written. Knows no folders.

What is refused names its file. Depth and normals that are not finite are taken as invalid (0), which is what they mean.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from edge_mtl.array_files import ArrayFileError, read_array
from edge_mtl.files import write_atomic
from edge_mtl.tasks import NYU13_CLASSES, VOID
from mtl.datasets.nyuv2.layout import DatasetError

__all__ = ["depth_array", "image_array", "label_array", "load_array", "normal_array", "save_array"]

Array = np.ndarray

_FARTHEST_M = 50.0
_LEAST_LENGTH = 1e-3


def load_array(path: Path) -> Array:
    """A memory-mapped .npy file. Raises DatasetError: missing, truncated, or not an array of numbers."""
    try:
        array = read_array(path, mapped=True)
    except ArrayFileError as exc:
        raise DatasetError(f"{path} cannot be read ({exc}). Copy or convert the data set again") from exc
    if array.dtype.kind not in "uif":
        raise DatasetError(f"{path} should hold an array of numbers, found {array.dtype}")
    return array


def save_array(path: Path, array: Array) -> None:
    """Write a .npy file atomically. Raises OSError."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def image_array(stored: Array, *, size: tuple[int, int] | None = None, where: str) -> Array:
    """(H, W, 3) numbers, floats from 0 to 1 or integers from 0 to 255 -> (H, W, 3) uint8 RGB.

    Floats are rounded to the nearest of 256 levels: at most 0.002 away, and exact for copies that were made of 8-bit images.
    """
    _check_shape(stored, size, (3,), where)
    if stored.dtype == np.uint8:
        return np.array(stored)
    top = 255.0 if stored.dtype.kind in "ui" else 1.0
    low, high = float(stored.min()), float(stored.max())
    if not (low >= -1e-3 * top and high <= 1.001 * top):  # also when one of them is NaN
        raise DatasetError(f"{where}: an image of {stored.dtype} should lie within 0 to {top:g}, found {low:g} to {high:g}")
    return (np.asarray(stored, np.float32) * np.float32(255.0 / top) + 0.5).clip(0, 255).astype(np.uint8)


def label_array(stored: Array, *, size: tuple[int, int] | None = None, classes: int = len(NYU13_CLASSES), where: str) -> Array:
    """(H, W) class numbers from 0 of any dtype, void as -1 or 255 -> (H, W) uint8, 255 void."""
    _check_shape(stored, size, (), where)
    numbers = np.asarray(stored)
    if numbers.dtype.kind == "f" and not (np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()):
        raise DatasetError(f"{where}: labels should be whole numbers, found fractions or NaN")
    label = numbers.astype(np.int64)
    label[label == -1] = VOID
    known = (label >= 0) & (label < classes)
    strange = np.unique(label[~known & (label != VOID)])
    if strange.size:
        raise DatasetError(f"{where}: labels should be -1 (void) and 0 to {classes - 1}, found {strange[:8].tolist()}")
    return label.astype(np.uint8)


def depth_array(stored: Array, *, size: tuple[int, int] | None = None, where: str) -> Array:
    """(H, W, 1) or (H, W) metres of any dtype -> (H, W) float32 metres, 0 invalid."""
    if stored.ndim == 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    _check_shape(stored, size, (), where)
    with np.errstate(over="ignore"):  # beyond float32 is infinite: not valid
        depth = np.array(stored, np.float32)
    depth[~np.isfinite(depth)] = 0
    low, high = float(depth.min()), float(depth.max())
    if low < 0 or high > _FARTHEST_M:
        raise DatasetError(f"{where}: depth should be metres from 0 to {_FARTHEST_M:g}, found {low:g} to {high:g}")
    return depth


def normal_array(stored: Array, *, size: tuple[int, int] | None = None, where: str) -> Array:
    """(H, W, 3) normals of any dtype -> (H, W, 3) float32 of unit length, 0 invalid; components as they are stored."""
    _check_shape(stored, size, (3,), where)
    with np.errstate(over="ignore"):
        normals = np.array(stored, np.float32)
    squared = np.einsum("ijk,ijk->ij", normals, normals)
    if not np.isfinite(squared.sum()):
        normals[~np.isfinite(squared)] = 0
        squared[~np.isfinite(squared)] = 0
    longest = float(np.sqrt(squared.max()))
    if longest > 1.5:
        raise DatasetError(f"{where}: normals should have length 1, or 0 where invalid; found length {longest:.3g}")
    invalid = squared < _LEAST_LENGTH**2
    squared[invalid] = np.inf
    normals *= (1 / np.sqrt(squared))[..., None]
    return normals


def _check_shape(array: Array, size: tuple[int, int] | None, last: tuple[int, ...], where: str) -> None:
    expected = " x ".join([*(map(str, size) if size else ("H", "W")), *map(str, last)])
    fits = array.ndim == 2 + len(last) and array.shape[2:] == last and array.size > 0
    if not fits or (size is not None and array.shape[:2] != size):
        raise DatasetError(f"{where}: expected {expected}, found {' x '.join(map(str, array.shape))}")
