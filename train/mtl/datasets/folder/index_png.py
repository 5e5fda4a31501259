"""Masks as PNG: the index of each pixel, whatever colours a palette gives them. Knows PNG's chunks; knows no classes."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

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
    chunks = _chunks(payload)
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
        decoded = cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as exc:
        raise IndexPngError("cannot be decoded: it is too large or damaged. Write it again") from exc
    if decoded is None or decoded.ndim != 2 or decoded.dtype != np.uint8:
        raise IndexPngError("cannot be decoded: it is damaged. Write it again")
    # fewer than 8 bits are spread over 0..255 by the decoder: 255 / 1, 255 / 3, 255 / 15
    return decoded if bits == 8 else decoded // np.uint8(255 // (2**bits - 1))


def _chunks(payload: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of every chunk; empty where the file is no PNG or ends within a chunk."""
    if not payload.startswith(_SIGNATURE):
        return []
    place, found = len(_SIGNATURE), []
    while place + 12 <= len(payload):
        (length,) = struct.unpack(">I", payload[place : place + 4])
        end = place + 12 + length
        if end > len(payload):
            return []
        found.append((payload[place + 4 : place + 8], payload[place + 8 : end - 4]))
        place = end
        if found[-1][0] == b"IEND":
            break
    return found


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
