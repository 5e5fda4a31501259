"""True depth in files beside images: 16-bit PNG in a unit that is given or that it states, or NPY in metres."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge_mtl.array_files import ArrayFileError, read_array
from edge_mtl.errors import FrameError
from edge_mtl.image.decoding import decode
from edge_mtl.image.encoding import stated_unit_m
from edge_mtl.remedies import told

__all__ = ["MILLIMETRES", "read_depth_file"]

Array = np.ndarray
MILLIMETRES = 0.001


def read_depth_file(folder: Path, name: str, *, unit_m: float | None = None) -> Array:
    """(H, W) float32 metres along z, 0 where unknown: FOLDER/NAME.npy, else FOLDER/NAME.png.

    Args:
        unit_m: metres per unit of a PNG; None: what it states, as those of `edge-mtl predict` and of labelled frames do, else
            millimetres. An NPY is in metres.
    Raises:
        FrameError: there is neither, it is no depth map, or it states another unit.
    """
    array, image = folder / f"{name}.npy", folder / f"{name}.png"
    if array.is_file():
        return _array(array)
    if not image.is_file():
        raise FrameError(f"{name} has no depth: expected {array.name} (metres) or {image.name} (16 bits) in {folder}")
    try:
        payload = image.read_bytes()
    except OSError as exc:
        raise FrameError(f"{image} cannot be read {told(exc)}") from exc
    decoded = decode(payload, cv2.IMREAD_UNCHANGED, name=str(image))
    if decoded.dtype != np.uint16 or decoded.ndim != 2:
        found = f"{decoded.dtype} of shape {decoded.shape}"
        raise FrameError(f"{image} should be a depth map, one channel of 16 bits; found {found}. Or give NAME.npy in metres.")
    stated = stated_unit_m(payload)
    if unit_m is not None and stated is not None and abs(stated - unit_m) > 1e-3 * unit_m:
        raise FrameError(f"{image} states that its unit is {stated:g} m, not {unit_m:g} m. Leave --depth-unit out.")
    return decoded.astype(np.float32) * np.float32(unit_m or stated or MILLIMETRES)


def _array(path: Path) -> Array:
    try:
        found = read_array(path)
    except ArrayFileError as exc:
        raise FrameError(f"{path} cannot be read ({exc}): expected a NumPy array of metres. Write it again.") from exc
    if found.ndim != 2 or found.dtype.kind != "f" or 0 in found.shape:
        raise FrameError(f"{path} should hold (H, W) floating-point metres; found {found.dtype} of shape {found.shape}.")
    with np.errstate(over="ignore"):  # beyond float32 is infinite: unknown
        return found.astype(np.float32)
