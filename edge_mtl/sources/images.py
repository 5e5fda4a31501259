"""Image files as (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.errors import FrameError
from edge_mtl.sources.frame_source import Frame, FrameSource, Still, file_identity

__all__ = ["IMAGE_SUFFIXES", "decode_image", "image_source", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")

_MAX_FILE_BYTES = 512 << 20


def image_source(path: Path) -> FrameSource:
    """One image as a source; it is read at once. Raises FrameError where it cannot be."""
    frame = Frame(path.stem, read_image(path))

    def stills() -> Generator[Still]:
        yield Still(frame.name, lambda: frame)

    return FrameSource(path.name, "image", f"frames of {path}", file_identity("image", path), 1, stills)


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8 RGB, turned upright as its EXIF data says; grey is repeated, transparency dropped.

    Raises:
        FrameError: the file is missing, too large, not an image, damaged, or has more than 8 bits per channel.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise FrameError(f"{path} is too large for an image: at most {_MAX_FILE_BYTES >> 20} MiB expected.")
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as exc:
        raise FrameError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    if encoded.size == 0:
        raise FrameError(f"{path} is empty: expected an image.")
    try:
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except (cv2.error, MemoryError) as exc:
        raise FrameError(f"{path} cannot be decoded: its size or format is not supported.") from exc
    if decoded is None:
        raise FrameError(f"{path} cannot be decoded: it is damaged or not an image.")
    if decoded.dtype != np.uint8:
        raise FrameError(
            f"{path} holds {decoded.dtype} pixels: expected 8 bits per channel. Convert it to an 8-bit RGB image; "
            "if it is a depth map, it is not an input."
        )
    return np.ascontiguousarray(decoded[:, :, ::-1])


def decode_image(payload: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB of an encoded image; None if it cannot be decoded."""
    if not payload:
        return None
    try:
        image = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
