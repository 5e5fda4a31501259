"""Images of every format that is read, in 8 and 16 bits, as files, masks and depth maps of folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_mtl.image.containers import inspect_image, png_chunks
from edge_mtl.image.decoding import decode
from edge_mtl.image.encoding import encode_image, encode_jpeg, encode_labels, stated_unit_m, with_text
from edge_mtl.sources.images import decode_image, read_image
from edge_mtl.tasks.labels import generated_palette
from tests.bundles import make_image
from tests.reliability.fuzz.formats import damaged_image
from tests.reliability.fuzz.target import Target

__all__ = ["TARGETS"]

_SIDES = (20, 28)


def _open(folder: Path) -> Callable[[bytes], None]:
    path = folder / "image"

    def read(data: bytes) -> None:
        inspect_image(data)
        list(png_chunks(data))
        stated_unit_m(data)
        decode_image(data)
        decode(data, cv2.IMREAD_UNCHANGED, name="the image")
        path.write_bytes(data)
        pixels = read_image(path, on_remark=lambda text: None)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3

    return read


def _encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    done, encoded = cv2.imencode(suffix, pixels, options)
    assert done
    return bytes(encoded.tobytes())


def _seeds(kind: str) -> Callable[[Path], Sequence[bytes]]:
    """Every form of a format that this project and OpenCV write."""
    rgb = make_image(1, height=_SIDES[0], width=_SIDES[1])
    grey, wide, clear = rgb[..., 0], rgb.astype(np.uint16) * 257, np.dstack([rgb, rgb[..., :1]])

    def of_kind(folder: Path) -> Sequence[bytes]:
        if kind == "png":
            labels = encode_labels(grey % 20, palette=generated_palette(20))
            depth = with_text(_encoded(".png", wide[..., 0]), "depth unit", "0.0002 m")
            forms = (_encoded(".png", form) for form in (grey, wide, clear, grey // 200))
            bilevel = _encoded(".png", grey, cv2.IMWRITE_PNG_BILEVEL, 1)
            return [encode_image(rgb), labels, depth, bilevel, *forms]
        if kind == "jpeg":
            progressive = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
            return [encode_jpeg(rgb), _encoded(".jpg", grey), _encoded(".jpg", rgb, *progressive)]
        if kind == "webp":
            return [
                _encoded(".webp", form, cv2.IMWRITE_WEBP_QUALITY, quality) for form in (rgb, clear) for quality in (80, 101)
            ]
        if kind == "tiff":
            forms = (rgb, grey, wide, wide[..., 0], clear, grey.astype(np.float32))
            return [_encoded(".tiff", form, cv2.IMWRITE_TIFF_COMPRESSION, how) for form in forms for how in (1, 5, 8)]
        if kind == "bmp":
            return [_encoded(".bmp", form) for form in (rgb, grey, clear)]
        return [
            _encoded(suffix, form) for suffix, form in ((".ppm", rgb), (".pgm", grey), (".ppm", wide), (".pgm", wide[..., 0]))
        ]

    return of_kind


TARGETS = tuple(
    Target(f"images-{kind}", "fuzz-media", _open, _seeds(kind), damaged_image, native=True)
    for kind in ("png", "jpeg", "webp", "tiff", "bmp", "ppm")
)
