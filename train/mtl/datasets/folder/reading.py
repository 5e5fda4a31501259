"""The files of a frame as arrays, as they are stored: image, mask, depth, normals. Knows file types, no classes or ranges.

Whatever cannot be used is a BuildError that names the file, what was expected and what was found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mtl.array_files import ArrayFileError, read_array
from edge_mtl.errors import BuildError, FrameError
from edge_mtl.image.decoding import decode
from edge_mtl.image.encoding import stated_unit_m
from edge_mtl.packages import import_package
from edge_mtl.sources.images import read_image
from mtl.datasets.folder.index_png import IndexPngError, read_indices

__all__ = [
    "DEPTH_SUFFIXES",
    "MASK_SUFFIXES",
    "NORMAL_SUFFIXES",
    "PHOTO_SUFFIXES",
    "decoded_png",
    "file_bytes",
    "read_photo",
    "stored_depth",
    "stored_mask",
    "stored_normals",
]

Array = np.ndarray

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")
MASK_SUFFIXES = (".png",)
DEPTH_SUFFIXES = (".png", ".exr", ".npy")
NORMAL_SUFFIXES = (".npy", ".png")

_DEPTH_CHANNELS = ("Z", "Y", "R", "depth")
"""Channels of an EXR file that can hold depth, in the order in which they are looked for; a single one may have any name."""


def read_photo(path: Path) -> Array:
    """(H, W, 3) uint8 RGB, upright as EXIF data says: labels are those of the upright image.

    One of 16 bits is scaled as at run time; one that leaves the upper bits empty is refused: nobody would see that it is dark.
    """
    oddities: list[str] = []
    try:
        pixels = read_image(path, on_remark=oddities.append)
    except FrameError as exc:
        raise BuildError(f"{str(exc).rstrip('.')}. Expected an 8-bit PNG or JPEG: write it again, or take it out") from exc
    if oddities:
        raise BuildError(
            f"{path} leaves the upper of its 16 bits empty. Expected an 8-bit PNG or JPEG, or all 16 bits filled: "
            "scale it, or take it out"
        )
    return pixels


def stored_mask(path: Path) -> Array:
    """(H, W) uint8 indices."""
    try:
        return read_indices(file_bytes(path))
    except IndexPngError as exc:
        raise BuildError(f"{path} {exc}") from exc


def stored_depth(path: Path, *, scale_m: float | None) -> Array:
    """(H, W) float32 metres, 0 where unknown: not a number, infinite, or not above 0.

    Args:
        scale_m: metres a unit of a PNG; None where none is stated.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        if scale_m is None:
            raise BuildError(f"{path} holds whole numbers: expected scale_m, metres a unit, in the task's table. State it")
        units = decoded_png(path)
        if units.ndim != 2 or units.dtype != np.uint16:
            raise BuildError(f"{path}: expected depth as a 16-bit grey PNG, found {_form(units)}. Write it again")
        stated = stated_unit_m(file_bytes(path))
        if stated is not None and abs(stated - scale_m) > 1e-3 * scale_m:
            raise BuildError(
                f"{path} states that its unit is {stated:g} m: expected scale_m = {stated:g}, found {scale_m:g}. Set it"
            )
        return units.astype(np.float32) * np.float32(scale_m)
    found = _exr(path) if suffix == ".exr" else _npy(path)
    if found.ndim == 3 and found.shape[2] == 1:
        found = found[..., 0]
    if found.ndim != 2 or found.dtype.kind != "f":
        raise BuildError(f"{path}: expected depth as (H, W) of floats in metres, found {_form(found)}. Write it again")
    with np.errstate(invalid="ignore", over="ignore"):  # beyond float32 is infinite: unknown
        depth = found.astype(np.float32)
        depth[~(np.isfinite(depth) & (depth > 0))] = 0
    return depth


def stored_normals(path: Path) -> Array:
    """(H, W, 3) float32 of any length, 0 where unknown; of a PNG, 2 v / 255 - 1, and (0, 0, 0) is unknown."""
    if path.suffix.lower() == ".png":
        coded = decoded_png(path)
        if coded.shape[2:] != (3,) or coded.dtype != np.uint8:
            raise BuildError(f"{path}: expected normals as an 8-bit RGB PNG, found {_form(coded)}. Write it again")
        known = coded.any(axis=2, keepdims=True)
        return np.where(known, coded[..., ::-1].astype(np.float32) * np.float32(2 / 255) - np.float32(1), np.float32(0))
    found = _npy(path)
    if found.shape[2:] != (3,) or found.dtype.kind != "f":
        raise BuildError(f"{path}: expected normals as (H, W, 3) of floats, found {_form(found)}. Write it again")
    with np.errstate(over="ignore"):
        normals = found.astype(np.float32)
    normals[~np.isfinite(normals).all(axis=2)] = 0
    return normals


def file_bytes(path: Path) -> bytes:
    """What a file holds."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BuildError(f"{path} cannot be read ({exc.strerror or exc}). Copy it again, or take it out") from exc


def decoded_png(path: Path) -> Array:
    """The pixels of a PNG as they are stored, in OpenCV's order of channels."""
    try:
        return decode(file_bytes(path), cv2.IMREAD_UNCHANGED, name=str(path))
    except FrameError as exc:
        raise BuildError(f"{str(exc).rstrip('.')}. Expected a whole PNG: write it again, or take it out") from exc


def _npy(path: Path) -> Array:
    try:
        found = read_array(path)
    except ArrayFileError as exc:
        raise BuildError(f"{path} cannot be read ({exc}): expected a NumPy array. Write it again, or take it out") from exc
    if found.ndim < 2:
        raise BuildError(f"{path}: expected an array of rows and columns, found {_form(found)}. Write it again")
    return found


def _exr(path: Path) -> Array:
    """The depth channel of an EXR file, by the package OpenEXR: OpenCV's packages are built without it."""
    use = f"{path}: EXR files (store depth as 16-bit PNG or NPY to do without) need the package OpenEXR"
    OpenEXR = import_package("OpenEXR", "File", use=use, install="edge-mtl[exr]")
    file_bytes(path)  # a missing file is told as such
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels: dict[str, Any] = {name: channel.pixels for name, channel in file.channels().items()}
    except (RuntimeError, ValueError, TypeError, OSError) as exc:
        raise BuildError(f"{path} cannot be read ({exc}): expected a whole EXR file. Write it again, or take it out") from exc
    name = next((one for one in _DEPTH_CHANNELS if one in channels), next(iter(channels), ""))
    if not name or (len(channels) > 1 and name not in _DEPTH_CHANNELS):
        raise BuildError(f"{path}: expected one channel, or one named Z, found {', '.join(channels) or 'none'}. Write it again")
    return np.asarray(channels[name])


def _form(array: Array) -> str:
    return f"{' x '.join(map(str, array.shape)) or 'one value'} of {array.dtype}"
