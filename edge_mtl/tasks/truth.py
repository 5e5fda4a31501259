"""Truth maps beside labelled frames: reading one from its PNG, and letterboxing it with its frame."""

from __future__ import annotations

import cv2
import numpy as np

from edge_mtl.errors import BundleError, FrameError
from edge_mtl.image.decoding import decode
from edge_mtl.image.frames import Letterbox
from edge_mtl.tasks.kind import TruthFiles

__all__ = ["fit_map", "read_map"]

Array = np.ndarray


def read_map(name: str, shape: tuple[int, ...], files: TruthFiles) -> Array | None:
    """The pixels of an image file as they are stored; None where there is no such file.

    Raises:
        BundleError: it was altered, is not an image or has another shape.
    """
    if name not in files.names:
        return None
    try:
        array = decode(files.read(name), cv2.IMREAD_UNCHANGED, name=str(files.where(name)))
    except FrameError as exc:
        raise BundleError(f"{exc} Export the bundle again, or mend the folder.") from exc
    if array.shape != shape:
        raise BundleError(
            f"{files.where(name)} should have the shape {shape} of its frame; found {array.shape}. "
            "Export the bundle again, or mend the folder."
        )
    return array


def fit_map(truth: Array, box: Letterbox, unknown: float) -> Array:
    """(H, W[, C]) of a frame -> the network's size, by the nearest pixel, `unknown` in the bars."""
    fitted = np.full((*box.network, *truth.shape[2:]), unknown, truth.dtype)
    fitted[box.rows, box.columns] = cv2.resize(truth, box.content[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return fitted
