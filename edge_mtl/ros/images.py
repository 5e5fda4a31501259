"""Images of sensor_msgs/Image and CompressedImage as arrays. Knows their encodings; imports nothing of ROS.

Encodings are those of sensor_msgs/image_encodings.hpp; the YUV conversions are OpenCV's (ITU-R BT.601, limited range). Those of
16 bits a channel are scaled to 8 bits first, as `edge_mtl.image.bit_depth` says, whichever way they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.image.bit_depth import FULL_BITS, OnRemark, to_8_bits
from edge_mtl.image.decoding import decode
from edge_mtl.image.frames import MAX_SIDE, Channels

__all__ = ["ENCODINGS", "decode_compressed", "decode_image", "image_of"]

Array = np.ndarray
Buffer = bytes | bytearray | memoryview | Array


@dataclass(frozen=True, slots=True)
class _Layout:
    """How pixels lie in memory: samples per pixel in a row, and OpenCV's conversion to RGB (None: used as it is).

    Attributes:
        wide: a sample has 16 bits, else 8.
    """

    samples: int
    conversion: int | None = None
    channels: Channels = "rgb"
    planar: bool = False
    wide: bool = False

    @property
    def pixel_bytes(self) -> int:
        """Bytes per pixel in a row."""
        return self.samples * (2 if self.wide else 1)


_BYTES: Mapping[str, _Layout] = {
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
_WORDS: Mapping[str, str] = {
    "rgb16": "rgb8",
    "bgr16": "bgr8",
    "16UC3": "8UC3",
    "rgba16": "rgba8",
    "bgra16": "bgra8",
    "16UC4": "8UC4",
    "mono16": "mono8",
    "16UC1": "8UC1",
    "bayer_rggb16": "bayer_rggb8",
    "bayer_bggr16": "bayer_bggr8",
    "bayer_gbrg16": "bayer_gbrg8",
    "bayer_grbg16": "bayer_grbg8",
}
ENCODINGS: Mapping[str, _Layout] = {**_BYTES, **{name: replace(_BYTES[like], wide=True) for name, like in _WORDS.items()}}
"""By name. Bare 8UC3, 8UC4 and their like of 16 bits are blue first, as cv_bridge has it; OpenCV names Bayer patterns after the
second row."""
_BY_LETTERS = {name.lower(): name for name in ENCODINGS}
"""Recordings write some of them in other letters."""


def image_of(message: Any, *, bits: int = FULL_BITS, on_remark: OnRemark | None = None) -> tuple[Array, Channels]:
    """The pixels of a sensor_msgs/Image or CompressedImage, or of anything with the fields of one.

    Args:
        bits: how many of 16 bits a channel are filled; see `to_8_bits`, also for `on_remark`.
    Returns:
        (H, W, 3) uint8 and the order of its colours.
    Raises:
        FrameError: it is not an image that can be used.
    """
    if not hasattr(message, "encoding"):
        return decode_compressed(str(message.format), message.data, bits=bits, on_remark=on_remark)
    encoding = str(message.encoding)
    return decode_image(
        _BY_LETTERS.get(encoding.lower(), encoding),
        int(message.height),
        int(message.width),
        int(message.step),
        message.data,
        bigendian=bool(message.is_bigendian),
        bits=bits,
        on_remark=on_remark,
    )


def decode_image(
    encoding: str,
    height: int,
    width: int,
    step: int,
    data: Buffer,
    *,
    bigendian: bool = False,
    bits: int = FULL_BITS,
    on_remark: OnRemark | None = None,
) -> tuple[Array, Channels]:
    """The pixels of a sensor_msgs/Image.

    Args:
        encoding: a key of ENCODINGS.
        height, width: of the image in pixels; NV12 has half as many rows again of colour.
        step: bytes from row to row, padding included.
        data: the message's bytes. rgb8 and bgr8 are not copied: the result is a view, valid as long as they are.
        bigendian: samples of 16 bits have their high byte first.
        bits: how many of 16 bits a channel are filled; see `to_8_bits`, also for `on_remark`.
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
    if layout.samples == 2 and width % 2:
        raise FrameError(f"{encoding} needs an even width; found {width}.")
    rows = height * 3 // 2 if layout.planar else height
    pixels = _rows(data, rows, step, width * layout.pixel_bytes)
    if layout.wide:
        words = np.ascontiguousarray(pixels).view(">u2" if bigendian else "<u2")
        pixels = to_8_bits(words, bits=bits, on_remark=on_remark)
    if layout.samples > 1:
        pixels = pixels.reshape(height, width, layout.samples)
    return _converted(pixels, encoding, layout)


def decode_compressed(
    description: str, data: Buffer, *, bits: int = FULL_BITS, on_remark: OnRemark | None = None
) -> tuple[Array, Channels]:
    """The pixels of a sensor_msgs/CompressedImage: JPEG, PNG, or whatever else OpenCV reads, of 8 or 16 bits a channel.

    Args:
        description: the message's `format`: "bayer_rggb8; png compressed " is a mosaic; compressed depth is refused.
        data: the message's bytes.
        bits: how many of 16 bits a channel are filled; see `to_8_bits`, also for `on_remark`.
    Returns:
        (H, W, 3) uint8 and the order of its colours.
    Raises:
        FrameError: it is not a whole image, or one of depth.
    """
    if "compresseddepth" in description.lower():
        raise FrameError(f"a colour image was expected; found compressed depth ({description!r}).")
    name = description.partition(";")[0].strip()
    # A PNG of a mosaic holds it as it is; a JPEG of one was made grey by whoever compressed it.
    mosaic = _BY_LETTERS.get(name.lower()) if name.startswith("bayer") and "jpeg" not in description else None
    flags = cv2.IMREAD_GRAYSCALE if mosaic else cv2.IMREAD_COLOR
    flags |= cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = decode(data, flags, name=f"a compressed image ({description!r})")
    if image.dtype not in (np.uint8, np.uint16):
        raise FrameError(f"an image of 8 or 16 bits a channel was expected; found {image.dtype} in {description!r}.")
    pixels = image
    if pixels.dtype == np.uint16:
        pixels = to_8_bits(pixels, bits=bits, on_remark=on_remark)
    return _converted(pixels, mosaic, ENCODINGS[mosaic]) if mosaic else (pixels, "bgr")


def _converted(pixels: Array, encoding: str, layout: _Layout) -> tuple[Array, Channels]:
    """(H, W[, C]) uint8 as colours."""
    if layout.conversion is None:
        return pixels, layout.channels
    height, width = pixels.shape[:2]
    if encoding.startswith("bayer") and min(height, width) < 3:
        raise FrameError(f"{encoding} needs at least 3x3 pixels; found {width}x{height}.")
    try:
        return cv2.cvtColor(np.ascontiguousarray(pixels), layout.conversion), "rgb"
    except cv2.error as exc:
        raise FrameError(f"a {width}x{height} image of {encoding} cannot be converted: {exc.err}") from exc


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
