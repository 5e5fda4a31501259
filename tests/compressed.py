"""Compressed images as subscribers of image_transport read them, written out by the rules of its plug-ins.

Knows formats and bytes; nothing of what writes them here.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

Array = np.ndarray


def read_compressed(described: str, data: bytes) -> tuple[str, Array]:
    """Encoding and pixels as `compressed_image_transport` gives them to its callback.

    The encoding stands before the semicolon. Pixels are in OpenCV's order where the rest names a target of blue first; then
    rgb8 is turned round, and what has no colours is taken as decoded.
    """
    encoding, separator, rest = described.partition(";")
    assert separator, "older formats said nothing of the encoding"
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    if "compressed bgr" in rest and encoding == "rgb8":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    channels = {"mono8": 1, "rgb8": 3, "bgr8": 3}[encoding]
    assert (image.shape[2] if image.ndim == 3 else 1) == channels
    return encoding, np.asarray(image)


def read_compressed_depth(described: str, data: bytes) -> tuple[str, Array]:
    """Encoding and pixels as `compressed_depth_image_transport` gives them to its callback.

    Twelve bytes of header: an enumerator, then a and b in single precision. The rest is a PNG: 16-bit values as they are, or
    for floats a / (q - b), not a number where q is 0.
    """
    encoding, _, rest = described.partition(";")
    assert "compressedDepth png" in rest
    assert len(data) > 12
    kind, a, b = struct.unpack("=iff", data[:12])
    assert kind == 0
    stored = cv2.imdecode(np.frombuffer(data[12:], np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert (stored.dtype, stored.ndim) == (np.uint16, 2)
    if encoding == "16UC1":
        return encoding, np.asarray(stored)
    assert encoding == "32FC1"
    code = stored.astype(np.float32)
    metres = np.full(code.shape, np.nan, np.float32)
    np.divide(np.float32(a), code - np.float32(b), out=metres, where=stored != 0)
    return encoding, metres
