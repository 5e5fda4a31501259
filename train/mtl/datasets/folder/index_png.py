"""Masks as PNG: the index of each pixel, whatever colours a palette gives them. Knows PNG's chunks; knows no classes."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.image.containers import png_chunks
from edge_mtl.image.decoding import decode

__all__ = ["IndexPngError", "read_indices"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_KINDS = {2: "RGB", 4: "grey with transparency", 6: "RGB with transparency"}
_KEPT = (b"IHDR", b"IDAT", b"IEND")


class IndexPngError(ValueError):
    """What is wrong with a file, without its name."""


def read_indices(payload: bytes) -> np.ndarray:
    """(H, W) uint8: the samples of a grey PNG of up to 8 bits, or the indices into the palette of one that has a palette.

    Decoders give the palette's colours. Indexed and grey samples are stored alike, so the header is told to be grey and
    the palette is left out (W3C PNG specification, sections 11.2.1 and 11.2.2).

    Raises:
        IndexPngError: no PNG, damaged, cut short, of colours or of 16 bits.
    """
    chunks = list(png_chunks(payload))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13 or chunks[-1][0] != b"IEND":
        raise IndexPngError("is cut short or damaged: expected a PNG of indices. Write it again")
    header = bytearray(chunks[0][1])
    bits, colour = header[8], header[9]
    if colour not in (_GREY, _PALETTE):
        raise IndexPngError(
            f"holds {_KINDS.get(colour, 'unknown')} colours: expected an index in each pixel, as a grey or a palette PNG. "
            "Colours are not read: convert them to indices"
        )
    if bits > 8:
        raise IndexPngError("has 16 bits a pixel: expected indices of 8 bits, 0 to 255. Convert it")
    header[9] = _GREY
    kept = [(kind, bytes(header) if kind == b"IHDR" else content) for kind, content in chunks if kind in _KEPT]
    grey = _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in kept)
    try:
        decoded = decode(grey, cv2.IMREAD_UNCHANGED, name="it")
    except FrameError as exc:
        raise IndexPngError("cannot be decoded: it is damaged or too large. Write it again") from exc
    if decoded.ndim != 2 or decoded.dtype != np.uint8:
        raise IndexPngError("cannot be decoded: it is damaged. Write it again")
    # fewer than 8 bits are spread over 0..255 by the decoder: 255 / 1, 255 / 3, 255 / 15
    return decoded if bits == 8 else decoded // np.uint8(255 // (2**bits - 1))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
