"""Image files of 8 or 16 bits a channel as (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.errors import FrameError
from edge_mtl.image.bit_depth import FULL_BITS, OnRemark, to_8_bits
from edge_mtl.image.decoding import decode
from edge_mtl.remedies import told
from edge_mtl.sources.frame_source import Frame, FrameSource, Still, bits_identity, file_identity

__all__ = ["IMAGE_SUFFIXES", "decode_image", "image_frame", "image_source", "is_name_of", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")

_MAX_FILE_BYTES = 512 << 20
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH


def image_source(path: Path, *, bits: int = FULL_BITS) -> FrameSource:
    """One image as a source; it is read at once. Raises FrameError where it cannot be."""
    frame = image_frame(path, path.stem, bits=bits)

    def stills() -> Generator[Still]:
        yield Still(frame.name, lambda: frame)

    identity = file_identity("image", path, *bits_identity(bits))
    return FrameSource(path.name, "image", f"frames of {path}", identity, 1, stills)


def is_name_of(text: str, frame: str) -> bool:
    """Whether `text` names a frame: as the frame is called, or with the suffix of its file."""
    stem, dot, suffix = text.rpartition(".")
    return text == frame or (f"{dot}{suffix}".lower() in IMAGE_SUFFIXES and frame in (stem, text.replace(".", "-")))


def image_frame(path: Path, name: str, *, bits: int = FULL_BITS) -> Frame:
    """An image file as the frame `name`. Raises FrameError where it cannot be read."""
    oddities: list[str] = []
    pixels = read_image(path, bits=bits, on_remark=oddities.append)
    return Frame(name, pixels, oddities=tuple(oddities))


def read_image(path: Path, *, bits: int = FULL_BITS, on_remark: OnRemark | None = None) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8 RGB, turned upright as its EXIF data says; grey is repeated, transparency dropped.

    Args:
        bits: how many of 16 bits a channel are filled; see `edge_mtl.image.bit_depth.to_8_bits`, also for `on_remark`.
    Raises:
        FrameError: the file is missing, cut short, too large, also for the memory that is left, not an image, damaged, or has
            neither 8 nor 16 bits per channel.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise FrameError(f"{path} is too large for an image: at most {_MAX_FILE_BYTES >> 20} MiB expected.")
        encoded = path.read_bytes()
    except OSError as exc:
        raise FrameError(f"{path} cannot be read {told(exc)}") from exc
    decoded = decode(encoded, _FLAGS, name=str(path))
    if decoded.dtype not in (np.uint8, np.uint16):
        raise FrameError(
            f"{path} holds {decoded.dtype} pixels: expected 8 or 16 bits per channel. Convert it to an 8-bit RGB image; "
            "if it is a depth map, it is not an input."
        )
    if decoded.dtype == np.uint16:
        decoded = to_8_bits(decoded, bits=bits, on_remark=on_remark)
    return np.ascontiguousarray(decoded[:, :, ::-1])


def decode_image(payload: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB of an encoded image; None if it cannot be decoded."""
    try:
        image = decode(payload, _FLAGS, name="it")
    except FrameError:
        return None
    if image.dtype not in (np.uint8, np.uint16):
        return None
    reduced = to_8_bits(image) if image.dtype == np.uint16 else image
    return np.asarray(cv2.cvtColor(reduced, cv2.COLOR_BGR2RGB), np.uint8)
