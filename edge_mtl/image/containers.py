"""What an encoded image says of itself before it is decoded: its size, and whether the file is all there.

Decoders differ by version in what they make of a file that was cut: nothing, grey, or whatever the memory held before. So the
structure is looked at here, by the formats' own rules: segments, chunks and lengths are followed, never searched for, since the
thumbnail inside a JPEG has an end of its own. What follows the end of an image (padding, a second image) is left alone.

Sources: ITU-T T.81 (JPEG), annex B; W3C PNG, section 5; WebP container specification (RIFF); Microsoft's BITMAPFILEHEADER;
TIFF 6.0 and BigTIFF; netpbm's ppm(5).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Buffer", "Container", "inspect_image", "png_chunks"]

Buffer = bytes | bytearray | memoryview | np.ndarray

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""Not a stuffed byte, a fill byte or a restart within the data of a scan."""
_SOI, _TEMPORARY, _EOI, _SOS = 0xD8, 0x01, 0xD9, 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PPM = re.compile(rb"P[56]" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s", re.DOTALL)
_PPM_HEADER = 4096


@dataclass(frozen=True, slots=True)
class Container:
    """An encoded image, as its file describes it.

    Attributes:
        format: its name.
        height, width: in pixels, before EXIF data turns it; 0 where the file does not say before its end.
        sample_bytes: of a channel of a pixel, 1 or more.
        whole: whether the file holds the image to its end; True where the format has no way to say.
        scans: of a JPEG: how often decoding goes over all of its pixels; else 1.
    """

    format: str
    height: int = 0
    width: int = 0
    sample_bytes: int = 1
    whole: bool = True
    scans: int = 1


def inspect_image(data: Buffer) -> Container | None:
    """What an encoded image says of itself; None for formats that are not known here. Never raises: damage is not whole.

    Args:
        data: the file's bytes; JPEG, PNG, WebP, BMP, TIFF, and binary PPM and PGM are known.
    """
    view = np.frombuffer(data, np.uint8).data
    start = bytes(view[:12])
    for fits, read in _READERS:
        if fits(start):
            try:
                return read(view)
            except (struct.error, IndexError, OverflowError, ValueError):  # the file ends within its header
                return Container(read.__name__.lstrip("_").upper(), whole=False)
    return None


def png_chunks(data: Buffer) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each whole chunk of a PNG, up to its end IEND; nothing where it is no PNG."""
    view = np.frombuffer(data, np.uint8).data
    if bytes(view[: len(_PNG)]) == _PNG:
        for kind, place, length in _png_places(view):
            yield kind, bytes(view[place : place + length])


def _png_places(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each whole chunk, where its content begins, and its length."""
    place, kind = len(_PNG), b""
    while kind != b"IEND" and place + 12 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, place)
        if place + 12 + length > len(view):
            return
        yield kind, place + 8, length
        place += 12 + length


def _jpeg(view: memoryview) -> Container:
    height = width = 0
    sample_bytes, scans, place = 1, 0, 2
    while (found := _JPEG_MARKER.search(view, place)) is not None:
        marker, place = view[found.end() - 1], found.end()
        if marker == _EOI:
            return Container("JPEG", height, width, sample_bytes, whole=scans > 0, scans=scans)
        if marker in (_SOI, _TEMPORARY):
            continue
        (length,) = struct.unpack_from(">H", view, place)
        if marker in _JPEG_FRAMES:
            bits, height, width = struct.unpack_from(">BHH", view, place + 2)
            sample_bytes = -(-bits // 8)
        scans += marker == _SOS
        place += length
    return Container("JPEG", height, width, sample_bytes, whole=False)


def _png(view: memoryview) -> Container:
    width, height, bits = struct.unpack_from(">IIB", view, 16)
    whole = any(kind == b"IEND" for kind, _, _ in _png_places(view))
    return Container("PNG", height, width, 2 if bits == 16 else 1, whole=whole)


def _webp(view: memoryview) -> Container:
    (length,) = struct.unpack_from("<I", view, 4)
    whole, kind = len(view) >= 8 + length, bytes(view[12:16])
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", view, 24)
        return Container("WebP", (low_h | high_h << 16) + 1, (low_w | high_w << 16) + 1, whole=whole)
    if kind == b"VP8L":
        (sides,) = struct.unpack_from("<I", view, 21)
        return Container("WebP", (sides >> 14 & 0x3FFF) + 1, (sides & 0x3FFF) + 1, whole=whole)
    width, height = struct.unpack_from("<HH", view, 26)
    return Container("WebP", height & 0x3FFF, width & 0x3FFF, whole=whole)


def _bmp(view: memoryview) -> Container:
    offset, header = struct.unpack_from("<II", view, 10)
    if header == 12:  # of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", view, 18)
        packing = 0
    else:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", view, 18)
    height, width = abs(height), abs(width)
    row = (width * bits + 31) // 32 * 4
    end = offset + row * height - 3 if packing in (0, 3, 6) else 0  # the last row may lack its padding; run lengths say no end
    return Container("BMP", height, width, whole=len(view) >= end)


def _tiff(view: memoryview) -> Container:
    order = "<" if view[0] == ord("I") else ">"
    big = struct.unpack_from(f"{order}H", view, 2)[0] == 43
    (place,) = struct.unpack_from(f"{order}Q", view, 8) if big else struct.unpack_from(f"{order}I", view, 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", view, place)
    tags: dict[int, np.ndarray] = {}
    for index in range(min(count, 4096)):
        entry = place + (8 + 20 * index if big else 2 + 12 * index)
        tag, kind, number = struct.unpack_from(f"{order}HH{'Q' if big else 'I'}", view, entry)
        size, inside = _TIFF_SIZES.get(kind, 0), entry + (12 if big else 8)
        if not size or not number or tag not in _TIFF_TAGS:
            continue
        if number * size > (8 if big else 4):
            (inside,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", view, inside)
        tags[tag] = np.frombuffer(view, f"{order}u{size}", number, inside)

    def first(tag: int, otherwise: int) -> int:
        return int(tags[tag][0]) if tag in tags else otherwise

    height, width, bits = first(257, 0), first(256, 0), int(tags[258].max()) if 258 in tags else 8
    starts, sizes = (tags.get(273), tags.get(279)) if 273 in tags else (tags.get(324), tags.get(325))
    end = 0.0
    if starts is not None and sizes is not None and starts.size == sizes.size:
        lengths = sizes.astype(np.float64)
        if first(259, 1) == 1 and 273 in tags:  # pixels as they are: some writers state more bytes than the rows have
            planes = 1 if first(284, 1) == 2 else first(277, 1)
            lengths = np.minimum(lengths, min(first(278, height), height) * -(-width * planes * bits // 8))
        end = float((starts + lengths).max())
    return Container("TIFF", height, width, -(-bits // 8), whole=len(view) >= end)


_TIFF_SIZES = {3: 2, 4: 4, 16: 8}
"""Bytes of whole numbers by their kind."""
_TIFF_TAGS = frozenset({256, 257, 258, 259, 273, 277, 278, 279, 284, 324, 325})
"""Width, height, bits, compression, offsets and sizes of strips and tiles, samples a pixel, rows a strip, planes."""


def _ppm(view: memoryview) -> Container:
    header = _PPM.match(view[:_PPM_HEADER])
    if header is None:
        return Container("PPM", whole=False)
    width, height, most = (int(number) for number in header.groups())
    sample_bytes = 1 if most < 256 else 2
    end = header.end() + width * height * sample_bytes * (3 if view[1] == ord("6") else 1)
    return Container("PPM", height, width, sample_bytes, whole=len(view) >= end)


_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[memoryview], Container]], ...] = (
    (lambda start: start[:3] == b"\xff\xd8\xff", _jpeg),
    (lambda start: start[:8] == _PNG, _png),
    (lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", _webp),
    (lambda start: start[:2] == b"BM", _bmp),
    (lambda start: start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (lambda start: start[:2] in (b"P5", b"P6"), _ppm),
)
"""How each format begins, and what reads it."""
