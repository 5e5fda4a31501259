"""Images in the encodings of ROS, written out by their definitions: the reference for the conversions of the node.

Images of 8 bits become those of 16 by 257, so that 255 is 65535.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def encoded(encoding: str, rgb: Array) -> tuple[Array, Array]:
    """The bytes of an (H, W, 3) uint8 image in an encoding, and the image that these bytes can tell.

    Returns:
        raw: (H, W, C) or (H, W) uint8, uint16 of little byte order for encodings of 16 bits; (1.5 H, W) for NV12 and NV21.
        told: (H, W, 3) uint8: grey for mono, full colour else.
    """
    if "16" in encoding:
        raw, told = encoded(encoding.replace("16", "8"), rgb)
        return (raw.astype(np.uint16) * 257).astype("<u2"), told
    red, green, blue = (rgb[..., channel] for channel in range(3))
    opaque = np.full(red.shape, 7, np.uint8)
    if encoding == "rgb8":
        return rgb, rgb
    if encoding in ("bgr8", "8UC3"):
        return np.dstack([blue, green, red]), rgb
    if encoding == "rgba8":
        return np.dstack([red, green, blue, opaque]), rgb
    if encoding in ("bgra8", "8UC4"):
        return np.dstack([blue, green, red, opaque]), rgb
    if encoding in ("mono8", "8UC1"):
        return green, np.dstack([green, green, green])
    if encoding.startswith("bayer_"):
        return _mosaic(encoding.removeprefix("bayer_").removesuffix("8"), rgb), rgb
    y, u, v = _bt601(rgb)
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        raw = np.empty((*y.shape, 2), np.uint8)
        luma, chroma = (1, 0) if encoding in ("yuv422", "uyvy") else (0, 1)
        raw[..., luma] = y
        raw[:, 0::2, chroma] = (u[:, 0::2].astype(int) + u[:, 1::2] + 1) // 2
        raw[:, 1::2, chroma] = (v[:, 0::2].astype(int) + v[:, 1::2] + 1) // 2
        return raw, rgb
    if encoding in ("nv12", "nv21"):
        height, width = y.shape
        raw = np.empty((height * 3 // 2, width), np.uint8)
        raw[:height] = y
        first, second = (u, v) if encoding == "nv12" else (v, u)
        raw[height:, 0::2] = _quarter(first)
        raw[height:, 1::2] = _quarter(second)
        return raw, rgb
    raise ValueError(encoding)


def _bt601(rgb: Array) -> tuple[Array, Array, Array]:
    """Y, Cb, Cr of 8 bits, limited range: ITU-R BT.601."""
    red, green, blue = (rgb[..., channel].astype(float) for channel in range(3))
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = (blue - y) / 1.772, (red - y) / 1.402
    return (
        np.rint(16 + y * 219 / 255).astype(np.uint8),
        np.rint(128 + u * 224 / 255).astype(np.uint8),
        np.rint(128 + v * 224 / 255).astype(np.uint8),
    )


def _quarter(plane: Array) -> Array:
    total = plane[0::2, 0::2].astype(int) + plane[1::2, 0::2] + plane[0::2, 1::2] + plane[1::2, 1::2]
    return (total + 2) // 4


def _mosaic(pattern: str, rgb: Array) -> Array:
    """One colour per pixel; `pattern` names those of the first two pixels of the first and second row."""
    raw = np.empty(rgb.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):
        rows, columns = slice(index // 2, None, 2), slice(index % 2, None, 2)
        raw[rows, columns] = rgb[rows, columns, "rgb".index(colour)]
    return raw
