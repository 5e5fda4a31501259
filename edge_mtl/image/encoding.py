"""Arrays as PNG and JPEG files: images, depth in a unit that the file names, labels with a palette."""

from __future__ import annotations

import errno
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DEPTH_UNIT",
    "DRAWN",
    "depth_units",
    "encode_depth",
    "encode_grey",
    "encode_image",
    "encode_jpeg",
    "encode_labels",
    "encode_png",
    "png_text",
    "stated_unit_m",
    "with_text",
]

DEPTH_UNIT, DRAWN = "depth_unit_m", "drawn"
"""Keywords of what our PNG files say of themselves: metres per unit of depth; that colours are for people to look at."""
_MILLIMETRES = 1000.0
_LARGEST_UNIT = 65535
_JPEG_QUALITY = 95
"""That of OpenCV and of image_transport."""


def encode_image(rgb: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB image as PNG."""
    return _encoded(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [])


def encode_depth(depth_m: NDArray[np.float32], *, units_per_m: float = _MILLIMETRES) -> bytes:
    """Depth (H, W) float32 metres as 16-bit grey PNG in a unit that it states; 0 is unknown, 65535 that far or more."""
    return with_text(_encoded(depth_units(depth_m, units_per_m=units_per_m), []), DEPTH_UNIT, f"{1.0 / units_per_m:g}")


def depth_units(
    depth_m: NDArray[np.float32], *, units_per_m: float = _MILLIMETRES, beyond: int = _LARGEST_UNIT
) -> NDArray[np.uint16]:
    """Depth (H, W) float32 metres as (H, W) uint16 units, rounded; 0 is unknown, `beyond` stands for more than 65535."""
    known = np.isfinite(depth_m) & (depth_m > 0)
    units = np.rint(np.where(known, depth_m, 0.0) * units_per_m)
    return np.where(units > _LARGEST_UNIT, beyond, units).astype(np.uint16)


def encode_grey(values: NDArray[Any]) -> bytes:
    """(H, W) uint8 or uint16 as grey PNG of as many bits, at the speed that live images need."""
    return _encoded(np.ascontiguousarray(values), [])


def encode_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB image as JPEG of quality 95."""
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    return _encoded(bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY], suffix=".jpg")


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


def with_text(png: bytes, keyword: str, text: str) -> bytes:
    """A PNG that says something of itself (a chunk tEXt, PNG specification, 11.3.3.2), which other readers pass over."""
    return png[:33] + _chunk(b"tEXt", f"{keyword}\0{text}".encode("latin-1")) + png[33:]


def png_text(png: bytes, keyword: str) -> str | None:
    """What a PNG says of itself under a keyword before its pixels; None where it says nothing, or is no PNG."""
    place = 8
    while place + 8 <= len(png):
        (length,), kind = struct.unpack_from(">I", png, place), png[place + 4 : place + 8]
        if kind == b"IDAT":
            return None
        found, separator, text = png[place + 8 : place + 8 + length].partition(b"\0")
        if kind == b"tEXt" and separator and found == keyword.encode():
            return text.decode("latin-1")
        place += 12 + length
    return None


def stated_unit_m(png: bytes) -> float | None:
    """Metres per unit of depth that a PNG of ours states; None where it states none."""
    try:
        found = float(png_text(png, DEPTH_UNIT) or "nan")
    except ValueError:
        return None
    return found if 0.0 < found < 1.0 else None


def _encoded(pixels: NDArray[Any], options: list[int], *, suffix: str = ".png") -> bytes:
    done, encoded = cv2.imencode(suffix, pixels, options)
    if not done:
        raise OSError(errno.EIO, f"a {suffix[1:].upper()} could not be encoded")
    return bytes(encoded.tobytes())


def _chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk (W3C PNG specification, section 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
