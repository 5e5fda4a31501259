"""Images of sensor_msgs/Image and CompressedImage as arrays. Knows their encodings; imports nothing of ROS.

Encodings are those of sensor_msgs/image_encodings.hpp; the YUV conversions are OpenCV's (ITU-R BT.601, limited range).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.image.frames import MAX_SIDE, Channels

__all__ = ["ENCODINGS", "decode_compressed", "decode_image"]

Array = np.ndarray
Buffer = bytes | bytearray | memoryview | Array


@dataclass(frozen=True, slots=True)
class _Layout:
    """How pixels lie in memory: bytes per pixel in a row, and OpenCV's conversion to RGB (None: used as it is)."""

    bytes_per_pixel: int
    conversion: int | None = None
    channels: Channels = "rgb"
    planar: bool = False


ENCODINGS: Mapping[str, _Layout] = {
    "rgb8": _Layout(3),
    "bgr8": _Layout(3, channels="bgr"),
    "8UC3": _Layout(3, channels="bgr"),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB),
    "8UC4": _Layout(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout(1, cv2.COLOR_GRAY2RGB),
    "yuv422": _Layout(2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": _Layout(2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Layout(2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": _Layout(2, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, planar=True),
    "nv21": _Layout(1, cv2.COLOR_YUV2RGB_NV21, planar=True),
    "bayer_rggb8": _Layout(1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _Layout(1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _Layout(1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _Layout(1, cv2.COLOR_BayerGB2RGB),
}
"""By name. Bare 8UC3 and 8UC4 are blue first, as cv_bridge has it; OpenCV names Bayer patterns after the second row."""


def decode_image(encoding: str, height: int, width: int, step: int, data: Buffer) -> tuple[Array, Channels]:
    """The pixels of a sensor_msgs/Image.

    Args:
        encoding: a key of ENCODINGS. All have 8 bits per channel, so the message's endianness does not matter.
        height, width: of the image in pixels; NV12 has half as many rows again of colour.
        step: bytes from row to row, padding included.
        data: the message's bytes. rgb8 and bgr8 are not copied: the result is a view, valid as long as they are.
    Returns:
        (H, W, 3) uint8 and the order of its colours.
    Raises:
        FrameError: an unknown encoding, no pixels, or fewer bytes than its size says.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise FrameError(f"the encoding {encoding!r} is none of {', '.join(ENCODINGS)}. Convert it with image_proc first.")
    if height < 1 or width < 1 or max(height, width) > MAX_SIDE:
        raise FrameError(f"an image of 1 to {MAX_SIDE} pixels a side was expected; found {width}x{height}.")
    if layout.planar and (height % 2 or width % 2):
        raise FrameError(f"{encoding} needs even sides; found {width}x{height}.")
    if layout.bytes_per_pixel == 2 and width % 2:
        raise FrameError(f"{encoding} needs an even width; found {width}.")
    if encoding.startswith("bayer") and (height < 3 or width < 3):
        raise FrameError(f"{encoding} needs at least 3x3 pixels; found {width}x{height}.")
    rows = height * 3 // 2 if layout.planar else height
    row_bytes = width * layout.bytes_per_pixel
    pixels = _rows(data, rows, step, row_bytes)
    if layout.bytes_per_pixel > 1:
        pixels = pixels.reshape(height, width, layout.bytes_per_pixel)
    if layout.conversion is None:
        return pixels, layout.channels
    try:
        return cv2.cvtColor(np.ascontiguousarray(pixels), layout.conversion), "rgb"
    except cv2.error as exc:
        raise FrameError(f"a {width}x{height} image of {encoding} cannot be converted: {exc.err}") from exc


def decode_compressed(description: str, data: Buffer) -> tuple[Array, Channels]:
    """The pixels of a sensor_msgs/CompressedImage: JPEG, PNG, or whatever else OpenCV reads.

    Args:
        description: the message's `format`, only to refuse compressed depth and to say what could not be read.
        data: the message's bytes.
    Returns:
        (H, W, 3) uint8 and "bgr".
    Raises:
        FrameError: it is not an image, or one of depth.
    """
    if "compresseddepth" in description.lower():
        raise FrameError(f"a colour image was expected; found compressed depth ({description!r}).")
    encoded = np.frombuffer(data, np.uint8)
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(encoded, flags) if encoded.size else None
    except cv2.error as exc:
        raise FrameError(f"{encoded.size} bytes of {description!r} cannot be decoded: {exc.err}") from exc
    if image is None:
        raise FrameError(f"{encoded.size} bytes of {description!r} are no JPEG or PNG image.")
    return image, "bgr"


def _rows(data: Buffer, rows: int, step: int, row_bytes: int) -> Array:
    """(rows, row_bytes) uint8: a view that leaves out the padding; the last row may lack its own."""
    if step < row_bytes:
        raise FrameError(f"rows of at least {row_bytes} bytes were expected; found a step of {step}.")
    try:
        flat = np.frombuffer(data, np.uint8)
    except (TypeError, ValueError) as exc:
        raise FrameError(f"image data should be bytes; found {type(data).__name__}.") from exc
    flat.flags.writeable = False
    needed = (rows - 1) * step + row_bytes
    if flat.size < needed:
        raise FrameError(f"{needed} bytes were expected for {rows} rows of {step}; found {flat.size}.")
    if flat.size >= rows * step:
        return flat[: rows * step].reshape(rows, step)[:, :row_bytes]
    return np.lib.stride_tricks.as_strided(flat[:needed], (rows, row_bytes), (step, 1), writeable=False)
