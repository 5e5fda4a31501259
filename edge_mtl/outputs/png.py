"""PNG files: RGB images, depth as 16-bit grey, class indices with a palette."""

from __future__ import annotations

import errno
import struct
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.tasks import NYU13_PALETTE

__all__ = ["encode_depth", "encode_image", "encode_labels"]

_MAX_DEPTH_MM = 65535


def encode_image(rgb: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB image as PNG."""
    return _png(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def encode_depth(depth_m: NDArray[np.float32]) -> bytes:
    """Depth (H, W) float32 metres as 16-bit grey PNG in millimetres; 0 is unknown, 65535 is that far or farther."""
    known = np.isfinite(depth_m) & (depth_m > 0)
    millimetres = np.round(np.where(known, depth_m, 0.0) * 1000.0)
    return _png(np.clip(millimetres, 0, _MAX_DEPTH_MM).astype(np.uint16))


def encode_labels(labels: NDArray[np.uint8], *, palette: NDArray[np.uint8] = NYU13_PALETTE) -> bytes:
    """Class indices (H, W) uint8 as PNG with a palette: viewers show colours, readers of indices get the classes."""
    grey = _png(labels)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    # Indexed and grey 8-bit pixels are stored alike: change the colour type in the header, then insert the palette.
    signature, header, rest = grey[:8], bytearray(grey[16:29]), grey[33:]
    header[9] = 3
    return signature + _chunk(b"IHDR", bytes(header)) + _chunk(b"PLTE", table.tobytes()) + rest


def _png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise OSError(errno.EIO, "a PNG could not be encoded")
    return bytes(encoded.tobytes())


def _chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk (W3C PNG specification, section 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
