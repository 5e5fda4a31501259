"""Images of 16 bits a channel as the 8 bits that networks see: one scaling for files, recordings, cameras and arrays.

The full range is scaled with rounding: 0 to 65535 becomes 0 to 255, so v / 257, and 8 bits that were widened by 257 come back
exactly. Cameras that fill only the low 10, 12 or 14 bits need `bits`, which no frame can say for sure: a dark scene looks
the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_mtl import opencv
from edge_mtl.errors import FrameError

__all__ = ["FULL_BITS", "OnRemark", "to_8_bits"]

cv2 = opencv.require()

Array = np.ndarray

FULL_BITS = 16
"""Bits of a channel that a camera fills where nobody says otherwise."""

OnRemark = Callable[[str], None]
"""Called with a sentence about an image that is used although it looks wrong."""

_FEWEST_BITS = 8
_COMMON_BITS = (8, 10, 12, 14)
_DARK_BITS = 2
"""An image that leaves this many of the highest bits unused has nothing brighter than a quarter of white."""


def to_8_bits(pixels: Array, *, bits: int = FULL_BITS, on_remark: OnRemark | None = None) -> Array:
    """Scale 0 .. 2^bits - 1 to 0 .. 255, rounded; brighter values are white.

    Args:
        pixels: (...) uint16 in either byte order.
        bits: how many of the 16 are filled, 8 to 16.
        on_remark: called where the brightest value speaks against `bits`: it lies beyond, or below a quarter of the range.
    Returns:
        (...) uint8, a new array.
    Raises:
        FrameError: `bits` is out of range, or the pixels are not uint16.
    """
    if not _FEWEST_BITS <= bits <= FULL_BITS:
        raise FrameError(f"images of 16 bits have {_FEWEST_BITS} to {FULL_BITS} that are filled; found {bits}.")
    if pixels.dtype.newbyteorder("=") != np.uint16:
        raise FrameError(f"pixels of uint16 were expected; found {pixels.dtype}.")
    native = np.ascontiguousarray(pixels, np.uint16)
    if on_remark is not None and (remark := _remark(native, bits)):
        on_remark(remark)
    if native.size == 0:
        return np.zeros(native.shape, np.uint8)
    return np.asarray(cv2.convertScaleAbs(native, alpha=255.0 / (2**bits - 1)), np.uint8).reshape(native.shape)


def _remark(pixels: Array, bits: int) -> str:
    """What the brightest value says against `bits`; empty where nothing does. The same text for images alike."""
    used = int(pixels.max(initial=0)).bit_length()
    if used > bits:
        return f"values of a 16-bit image lie beyond its {bits} bits and become white. {_advice(FULL_BITS)}"
    fits = next((common for common in _COMMON_BITS if used <= common), FULL_BITS)
    if used == 0 or used > bits - _DARK_BITS or fits >= bits:
        return ""
    found = f"a 16-bit image is dark: of its {bits} bits it fills the lowest {fits} only."
    return f"{found} If the camera has no more: {_advice(fits)}"


def _advice(bits: int) -> str:
    return f"image_bits:={bits} for the node, --bits {bits} on the command line, bits={bits} in Python."
