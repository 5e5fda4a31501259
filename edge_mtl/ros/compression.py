"""Maps as sensor_msgs/CompressedImage has them: format strings and bytes as the plug-ins of image_transport read them.

`compressed` is a JPEG, or a PNG of what must stay exact. `compressedDepth` is a header of 12 bytes and a PNG of 16 bits: of
16UC1 its values, of 32FC1 inverse depth in steps. A subscriber gets metres back by the two numbers in the header,
z = a / (q - b), and NaN where q is 0.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from edge_mtl.image.encoding import encode_grey, encode_image, encode_jpeg
from edge_mtl.tasks.kind import Transport

__all__ = ["FARTHEST_M", "NEAREST_M", "SUFFIXES", "compress"]

Array = np.ndarray

SUFFIXES: Mapping[Transport, str] = {"jpeg": "compressed", "png": "compressed", "depth": "compressedDepth"}
"""Names of topics below the map's own."""

_INVERSE_DEPTH = 0
"""The one kind of header that the plug-in knows."""
_STEPS = float(np.iinfo(np.uint16).max)
_ONE_METRE_STEP_M = 100.0
"""Where a step of the code is one metre, the plug-in's own default; at z metres a step is z squared / 10100."""
_A = _ONE_METRE_STEP_M * (_ONE_METRE_STEP_M + 1.0)
FARTHEST_M = 100.0
"""What lies beyond is unknown in a compressed map."""
_B = 1.0 - _A / FARTHEST_M
NEAREST_M = _A / (_STEPS - _B)
"""What lies nearer is this near in a compressed map: 0.154 m."""


def compress(encoding: str, pixels: Array, transport: Transport) -> tuple[str, bytes]:
    """The `format` and `data` of a compressed map.

    Args:
        encoding: of the map: "rgb8" or "mono8" for "jpeg" and "png", "32FC1" (metres) or "16UC1" (millimetres) for "depth".
        pixels: (H, W, 3) or (H, W), of the encoding's type.
        transport: how.
    Raises:
        ValueError: that encoding has no such copy.
    """
    if transport == "depth" and encoding == "32FC1":
        return "32FC1; compressedDepth png", _header(_A, _B) + encode_grey(_inverse(pixels))
    if transport == "depth" and encoding == "16UC1":
        return "16UC1; compressedDepth png", _header(0.0, 0.0) + encode_grey(pixels)
    if transport == "jpeg" and encoding == "rgb8":
        return "rgb8; jpeg compressed bgr8", encode_jpeg(pixels)
    if transport == "png" and encoding == "rgb8":
        return "rgb8; png compressed bgr8", encode_image(np.ascontiguousarray(pixels))
    if transport == "png" and encoding == "mono8":
        return "mono8; png compressed ", encode_grey(pixels)  # the plug-in names no target of what it does not convert
    raise ValueError(f"a map of {encoding} cannot be sent as {transport!r}")


def _header(a: float, b: float) -> bytes:
    """The plug-in's ConfigHeader: an enumerator and two floats, in the byte order of the machines that ROS runs on."""
    return struct.pack("<iff", _INVERSE_DEPTH, a, b)


def _inverse(depth_m: Array) -> Array:
    """(H, W) uint16: 1 at FARTHEST_M to 65535 at NEAREST_M and before, rounded; 0 where depth is unknown or beyond."""
    known = (depth_m > 0) & (depth_m <= np.float32(FARTHEST_M))  # false for NaN as well
    code = np.float32(_A) / np.where(known, depth_m, np.float32(1.0)) + np.float32(_B)
    return np.where(known, np.clip(np.rint(code), 1.0, _STEPS), 0.0).astype(np.uint16)
