"""Truths beside labelled frames: reading a map from its PNG and letterboxing it with its frame; what is no map, from JSON."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edge_mtl.documents import parse_json
from edge_mtl.errors import BundleError, FrameError
from edge_mtl.image.decoding import decode
from edge_mtl.image.frames import Letterbox
from edge_mtl.tasks.kind import TruthFiles

__all__ = ["EXPORT_AGAIN", "fit_map", "read_json", "read_map"]

Array = np.ndarray

EXPORT_AGAIN = "Export the bundle again, or mend the folder."


def read_map(name: str, shape: tuple[int, ...], files: TruthFiles, *, kinds: tuple[str, ...] = ()) -> Array | None:
    """The pixels of an image file as they are stored; None where there is no such file.

    Args:
        kinds: of numbers that it may hold: "uint8", "uint16"; any by default.
    Raises:
        BundleError: it was altered, is not an image, has another shape or holds other numbers.
    """
    if name not in files.names:
        return None
    try:
        array = decode(files.read(name), cv2.IMREAD_UNCHANGED, name=str(files.where(name)))
    except FrameError as exc:
        raise BundleError(f"{exc} {EXPORT_AGAIN}") from exc
    if array.shape != shape:
        raise BundleError(
            f"{files.where(name)} should have the shape {shape} of its frame; found {array.shape}. {EXPORT_AGAIN}"
        )
    if kinds and array.dtype.name not in kinds:
        bits = " or ".join(f"{8 * np.dtype(kind).itemsize}" for kind in kinds)
        raise BundleError(
            f"{files.where(name)} should have {bits} bits a channel; found {8 * array.dtype.itemsize}. {EXPORT_AGAIN}"
        )
    return array


def read_json(name: str, files: TruthFiles) -> dict[str, Any] | None:
    """The object that a JSON file holds; None where there is no such file. Raises BundleError: altered, or no JSON object."""
    if name not in files.names:
        return None
    try:
        content = parse_json(files.read(name))
    except ValueError as exc:  # also bytes that are no UTF-8
        raise BundleError(f"{files.where(name)} should hold JSON ({exc}). {EXPORT_AGAIN}") from exc
    if not isinstance(content, dict):
        raise BundleError(f"{files.where(name)} should hold an object; found {type(content).__name__}. {EXPORT_AGAIN}")
    return content


def fit_map(truth: Array, box: Letterbox, unknown: float) -> Array:
    """(H, W[, C]) of a frame -> the network's size, by the nearest pixel, `unknown` in the bars."""
    fitted = np.full((*box.network, *truth.shape[2:]), unknown, truth.dtype)
    fitted[box.rows, box.columns] = cv2.resize(truth, box.content[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return fitted
