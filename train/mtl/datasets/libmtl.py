"""The resampling of LibMTL's augmentation: what torch's `interpolate` does to a crop, in NumPy. Knows arrays only.

Images and normals are bilinear with aligned corners, labels and depth take the nearest pixel of torch's mode "nearest",
which rounds down. Interpolated normals are left as short as they come out.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ZOOMS", "bilinear_aligned", "nearest_down"]

Array = np.ndarray

ZOOMS = (1.0, 1.2, 1.5)
"""Zooms that LibMTL draws from (`RandomScaleCrop` of its NYUv2 example)."""


def nearest_down(length: int, size: int, places: Array) -> Array:
    """Source index of output pixels `places` when `length` pixels become `size`: floor(place * length / size), in float32."""
    scale = np.float32(length) / np.float32(size)
    return np.minimum(np.floor(places.astype(np.float32) * scale).astype(np.intp), length - 1)


def bilinear_aligned(array: Array, size: tuple[int, int], rows: Array, columns: Array) -> Array:
    """Pixels (rows x columns) of an array resized to `size` with aligned corners.

    Args:
        array: (h, w, channels) numbers.
        size: (H, W) it is resized to.
        rows, columns: which pixels of the result are wanted.
    Returns:
        (len(rows), len(columns), channels) float32.
    """
    top, bottom, down = _between(array.shape[0], size[0], rows)
    left, right, across = _between(array.shape[1], size[1], columns)
    down, across = down[:, None, None], across[None, :, None]
    upper = array[top].astype(np.float32) * (1 - down) + array[bottom].astype(np.float32) * down
    return upper[:, left] * (1 - across) + upper[:, right] * across


def _between(length: int, size: int, places: Array) -> tuple[Array, Array, Array]:
    """The two source pixels around each place and the weight of the second."""
    scale = np.float32((length - 1) / (size - 1)) if size > 1 else np.float32(0)
    at = places.astype(np.float32) * scale
    first = np.minimum(at.astype(np.intp), length - 1)
    return first, np.minimum(first + 1, length - 1), at - first.astype(np.float32)
