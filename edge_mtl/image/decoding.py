"""Encoded images as arrays: the one place that decodes, for files, bags, the node, bundles and data sets."""

from __future__ import annotations

import numpy as np

from edge_mtl import opencv
from edge_mtl.errors import FrameError
from edge_mtl.image.containers import Buffer, Container, inspect_image
from edge_mtl.image.memory import out_of_memory, require_memory

__all__ = ["decode"]

cv2 = opencv.require()

Array = np.ndarray

_SMALLER = "Reduce the image, or give this process more memory."
_MOST_SCANS = 100
"""Of a JPEG. For each, decoders go over the whole image; a few kilobytes may hold thousands, progressive images have ten."""
_COPIES = 2
"""Of the result, at the peak: OpenCV decodes into memory of its own and copies that into an array, whatever the format; seen
with OpenCV 5.0 on 108 million pixels of JPEG, baseline, progressive and turned upright, and on PNG."""


def decode(data: Buffer, flags: int, *, name: str) -> Array:
    """The pixels of an encoded image, in OpenCV's order of channels.

    What counts as a whole image does not depend on OpenCV's version: it is looked at before, see `edge_mtl.image.containers`.

    Args:
        data: the bytes of a file: JPEG, PNG, WebP, BMP, TIFF, PPM or whatever else OpenCV reads.
        flags: of cv2.imdecode.
        name: of the image, for messages; begins them.
    Returns:
        (H, W) or (H, W, C), as `flags` say; the caller's own.
    Raises:
        FrameError: it is empty, cut short, too large for the memory, damaged or not an image.
    """
    encoded = np.frombuffer(data, np.uint8)
    if encoded.size == 0:
        raise FrameError(f"{name} is empty: expected an image.")
    container = inspect_image(encoded)
    if container is not None and not container.whole:
        raise FrameError(
            f"{name} is cut short or damaged: {encoded.size} bytes of {container.format} end before the image. Copy it again."
        )
    if container is not None and container.scans > _MOST_SCANS:
        raise FrameError(
            f"{name} has {container.scans} scans, up to {_MOST_SCANS} expected: decoding it could take hours. Save it again."
        )
    if container is not None:
        require_memory(_decoding_bytes(container, flags), name, _SMALLER)
    try:
        with out_of_memory(name, _SMALLER):
            pixels = cv2.imdecode(encoded, flags)
    except cv2.error as exc:
        raise FrameError(f"{name} cannot be decoded: its size or format is not supported.") from exc
    if pixels is None:
        raise FrameError(f"{name} cannot be decoded: it is damaged or not an image.")
    return np.asarray(pixels)


def _decoding_bytes(container: Container, flags: int) -> int:
    """What decoding takes at its peak, the result included: at most three channels."""
    kept = container.sample_bytes if flags & cv2.IMREAD_ANYDEPTH else 1  # every bit of IMREAD_UNCHANGED is set
    return container.height * container.width * 3 * kept * _COPIES
