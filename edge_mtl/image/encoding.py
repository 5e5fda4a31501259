"""Arrays as PNG files: images, depth in millimetres, labels with a palette."""

from __future__ import annotations

import errno
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["encode_depth", "encode_image", "encode_labels", "encode_png"]

_MAX_DEPTH_MM = 65535


def encode_image(rgb: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB image as PNG."""
    return _encoded(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [])


def encode_depth(depth_m: NDArray[np.float32]) -> bytes:
    """Depth (H, W) float32 metres as 16-bit grey PNG in millimetres; 0 is unknown, 65535 is that far or farther."""
    known = np.isfinite(depth_m) & (depth_m > 0)
    millimetres = np.round(np.where(known, depth_m, 0.0) * 1000.0)
    return _encoded(np.clip(millimetres, 0, _MAX_DEPTH_MM).astype(np.uint16), [])


def encode_labels(labels: NDArray[np.uint8], *, palette: NDArray[np.uint8]) -> bytes:
    """Class indices (H, W) uint8 as PNG with a palette (C, 3): viewers show colours, readers of indices get the classes."""
    grey = _encoded(labels, [])
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    # Indexed and grey 8-bit pixels are stored alike: change the colour type in the header, then insert the palette.
    signature, header, rest = grey[:8], bytearray(grey[16:29]), grey[33:]
    header[9] = 3
    return signature + _chunk(b"IHDR", bytes(header)) + _chunk(b"PLTE", table.tobytes()) + rest


def encode_png(pixels: NDArray[Any]) -> bytes:
    """(H, W) or (H, W, 3) in OpenCV's order of channels, as small as PNG gets it: for files that travel."""
    return _encoded(np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _encoded(pixels: NDArray[Any], options: list[int]) -> bytes:
    done, encoded = cv2.imencode(".png", pixels, options)
    if not done:
        raise OSError(errno.EIO, "a PNG could not be encoded")
    return bytes(encoded.tobytes())


def _chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk (W3C PNG specification, section 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
