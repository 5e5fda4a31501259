"""Changes to images, videos and arrays by their structure: chunks, segments, boxes, elements, with sums and lengths that fit.

A mutation takes a file apart, changes one part, and puts it together so that readers get as far as what was changed.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from tests.reliability.fuzz.mutations import mutate_bytes
from tests.reliability.fuzz.values import INTEGERS, Mutation, altered_record, packed_integer, with_field

__all__ = ["damaged_file", "damaged_image", "damaged_npy", "damaged_video"]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KINDS = b"PLTE tRNS gAMA iCCP eXIf acTL fcTL fdAT zTXt iTXt tEXt IEND".split()
_TIFF_TAGS = (254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 339, 34675)
_BMP_FIELDS = ((2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4), (50, 4), (54, 4))
_PPM_WORDS = b"P1 P2 P3 P4 P5 P6 P7 Pf # 0 1 7 255 256 65535 65536 20000 1000000 4294967295 99999999999999999999 -1".split()
_SIDES = (0, 1, 2, 7, 255, 256, 4096, 16384, 20000, 32768, 46341, 65535, 65536, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


class Part(NamedTuple):
    """A chunk, segment, box or element: what it is called and what it holds."""

    kind: bytes
    content: bytes


def damaged_file(name: str) -> Mutation:
    """The mutation for a file of this name; of bytes where no structure is known."""
    suffix = name.rpartition(".")[2].lower()
    if suffix in ("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "ppm", "pgm"):
        return damaged_image
    if suffix in ("mp4", "mov", "avi", "mkv", "webm"):
        return damaged_video
    return {"npy": damaged_npy}.get(suffix, mutate_bytes)


def damaged_image(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """An image with one part changed by its format; in one case of five its bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(data, other, rng)
    if data.startswith(_PNG):
        return _png(data, other, rng)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data, other, rng)
    if data.startswith(b"RIFF"):
        return _riff(data, other, rng)
    if data[:2] in (b"II", b"MM") and len(data) >= 8:
        return _tiff(data, rng)
    if data[:2] == b"BM":
        return _bmp(data, rng)
    if data[:1] == b"P":
        return _ppm(data, rng)
    return mutate_bytes(data, other, rng)


def damaged_video(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A video with one part changed by its format; in one case of five its bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(data, other, rng)
    if data.startswith(b"RIFF"):
        return _riff(data, other, rng)
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return _ebml(data, other, rng)
    return _boxes(data, other, rng)


def damaged_npy(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """An array with another header; in one case of three other bytes."""
    if not data.startswith(b"\x93NUMPY") or len(data) < 12 or rng.random() < 0.33:
        return mutate_bytes(data, other, rng)
    version, wide = data[6], data[6] > 1
    start = 12 if wide else 10
    (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    header, content = data[start : start + length].decode("latin-1").strip(), data[start + length :]
    kinds = ("<f4", "<f8", ">f4", "|u1", "<u2", "<i8", "<f2", "|b1", "<c16", "|O", "<U9", "<M8[ns]", "|V8", "<f16", "x", "")
    shapes = ("()", "(0,)", "(2, 0)", "(1,)", "(48, 64)", "(48, 64, 3)", "(1, 1, 1, 1)", "(-1, 3)", "(2**40, 2)", "(True, 2)")
    shapes += (f"({1 << 40}, {1 << 40})", f"({1 << 62},)", "(1099511627776,)", "'x'", "None", "[4, 4]", "(1.5, 2)")
    odd = (
        "{",
        "{}",
        "[" * 3000,
        "(" * 500,
        "{'descr': '<f4'}",
        "x = 1",
        "1L",
        "'''",
        "\x00",
        "{1: 2",
        "é",
        "lambda: 0",
        "-" * 9000,
    )
    how = rng.randrange(7)
    if how == 0:
        header = header.replace(header[header.find(":") + 1 : header.find(",")], f" {rng.choice(kinds)!r}", 1)
    elif how in (1, 2):
        at = header.find("'shape':")
        header = f"{header[: at + 8]} {rng.choice(shapes)}, }}"
    elif how == 3:
        header = rng.choice(odd)
    elif how == 4:
        header = header.replace("False", rng.choice(("True", "1", "None", "[]", "'x'")))
    elif how == 5:
        header = mutate_bytes(header.encode("latin-1", "replace"), other, rng).decode("latin-1")
    else:
        version = rng.choice((0, 1, 2, 3, 4, 255))
    encoded = header.encode("latin-1", "replace") + b"\n"
    sizes = struct.pack("<H", len(encoded) & 0xFFFF) if version < 2 else struct.pack("<I", len(encoded))
    return b"\x93NUMPY" + bytes((version, 0)) + sizes + encoded + content


def _reordered(parts: list[Part], others: Sequence[Part], rng: random.Random) -> list[Part]:
    """One part left out, doubled, moved, or taken from another file."""
    found, at = list(parts), rng.randrange(len(parts))
    how = rng.randrange(5)
    if how == 0 and len(found) > 1:
        del found[at]
    elif how == 1:
        found[at:at] = [found[at]] * rng.choice((1, 3, 300))
    elif how == 2:
        found.insert(rng.randrange(len(found)), found.pop(at))
    elif others:
        found.insert(at, rng.choice(others))
    return found


def _png(data: bytes, other: bytes, rng: random.Random) -> bytes:
    parts, others = _png_parts(data), _png_parts(other)
    if not parts:
        return mutate_bytes(data, other, rng)
    how = rng.random()
    if how < 0.25:
        return _PNG + b"".join(map(_png_chunk, _reordered(parts, others, rng)))
    at = rng.randrange(len(parts))
    kind, content = parts[at]
    if how < 0.5 and parts[0].kind == b"IHDR" and len(parts[0].content) == 13:
        at, kind, header = 0, b"IHDR", list(struct.unpack(">IIBBBBB", parts[0].content))
        field = rng.randrange(7)
        header[field] = rng.choice(_SIDES) if field < 2 else rng.choice((0, 1, 2, 3, 4, 6, 7, 8, 16, 32, 255))
        content = struct.pack(">IIBBBBB", *header)
    elif kind == b"IDAT" and how < 0.8:
        content = _deflated(content, other, rng)
    elif how < 0.9:
        content = altered_record(content, other, rng, order=">")
    else:
        kind = rng.choice(_PNG_KINDS)
        content = rng.choice((content, content[:9], b"", rng.randbytes(26), b"x\0\0" + _zeros(100_000)))
    parts[at] = Part(kind, content)
    joined = bytearray(_PNG + b"".join(map(_png_chunk, parts)))
    if how > 0.97:
        struct.pack_into(">I", joined, 8, rng.choice(INTEGERS) & 0xFFFFFFFF)
    return bytes(joined)


def _deflated(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Pixels of a PNG changed before they are compressed; in one case of four many more of them."""
    try:
        rows = zlib.decompress(content)
    except zlib.error:
        return mutate_bytes(content, other, rng)
    if rng.random() < 0.25:
        return _zeros(rng.choice((0, 1, 10_000, 30_000_000)))
    return zlib.compress(mutate_bytes(rows, other, rng))


@lru_cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def _png_parts(data: bytes) -> list[Part]:
    found, place = [], len(_PNG)
    while data.startswith(_PNG) and place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        found.append(Part(kind, data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def _png_chunk(part: Part) -> bytes:
    summed = part.kind + part.content
    return struct.pack(">I", len(part.content)) + summed + struct.pack(">I", zlib.crc32(summed))


def _jpeg(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Segments; the entropy-coded data after the start of a scan belongs to it."""
    parts, others = _jpeg_parts(data), _jpeg_parts(other)
    if not parts:
        return mutate_bytes(data, other, rng)
    how = rng.random()
    if how < 0.3:
        parts = _reordered(parts, others, rng)
    elif how < 0.55 and (frames := [at for at, part in enumerate(parts) if 0xC0 <= part.kind[0] <= 0xC2]):
        at = rng.choice(frames)
        header = bytearray(parts[at].content)
        field = rng.choice((2, 3, 5, 7, 8, 9, 10, 11))
        if field in (3, 5) and len(header) > 6:
            struct.pack_into(">H", header, field, rng.choice(_SIDES) & 0xFFFF)
        elif field < len(header):
            header[field] = rng.choice((0, 1, 2, 3, 4, 8, 12, 16, 17, 34, 68, 255))
        parts[at] = Part(rng.choice((parts[at].kind, bytes((rng.randrange(0xC0, 0xD0),)))), bytes(header))
    elif how < 0.62 and (scans := [part for part in parts if part.kind == b"\xda"]):
        last = max(at for at, part in enumerate(parts) if part.kind == b"\xda")
        parts[last:last] = [rng.choice(scans)] * rng.choice((3, 30, 150, 1000))
    else:
        at = rng.randrange(len(parts))
        content = altered_record(parts[at].content, other, rng, order=">")
        parts[at] = Part(rng.choice((parts[at].kind, parts[at].kind, b"\xe1", b"\xee", b"\xdd", b"\xdc")), content)
    if rng.random() < 0.1:
        exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", 1, 274, 3, 1, rng.choice((0, 2, 5, 6, 8, 9, 65535)), 0)
        parts.insert(0, Part(b"\xe1", struct.pack(">H", len(exif) + 2) + rng.choice((exif, with_field(exif, rng, ">")))))
    return b"\xff\xd8" + b"".join(b"\xff" + part.kind + part.content for part in parts)


def _jpeg_parts(data: bytes) -> list[Part]:
    found, place = [], 2
    while data.startswith(b"\xff\xd8") and place + 1 < len(data) and data[place] == 0xFF:
        kind, start = data[place + 1 : place + 2], place + 2
        if kind[0] == 0xD9:
            found.append(Part(kind, b""))
            break
        (length,) = struct.unpack_from(">H", data.ljust(start + 2, b"\0"), start)
        place = start + max(length, 2)
        if kind[0] == 0xDA:
            while place < len(data) and not (data[place] == 0xFF and data[place + 1 : place + 2] not in _IN_SCANS):
                place += 1
        found.append(Part(kind, data[start:place]))
    return found


_IN_SCANS = (b"", b"\0", b"\xff", *(bytes((0xD0 + number,)) for number in range(8)))


def _riff(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """WebP and AVI: chunks, and lists of chunks."""
    content = _altered_nested(data[12:], other[12:], rng, _RIFF)
    form = data[8:12] if rng.random() < 0.97 else other[8:12]
    size = len(content) + 4 if rng.random() < 0.9 else rng.choice(INTEGERS) & 0xFFFFFFFF
    return b"RIFF" + struct.pack("<I", size) + form + content


def _boxes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """MP4 and MOV."""
    return _altered_nested(data, other, rng, _MP4)


def _ebml(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Matroska and WebM."""
    return _altered_nested(data, other, rng, _MATROSKA)


class _Nested(NamedTuple):
    """A format of parts within parts.

    Attributes:
        split: a content into parts; an empty list where it has none.
        join: a part again, and with the length that is given.
        holds: where the parts within a part begin in its content; None where it has none.
        order: of bytes.
    """

    split: Callable[[bytes], list[Part]]
    join: Callable[[Part, int | None], bytes]
    holds: Callable[[Part], int | None]
    order: str


def _altered_nested(data: bytes, other: bytes, rng: random.Random, form: _Nested) -> bytes:
    parts = form.split(data)
    if not parts:
        return altered_record(data, other, rng, order=form.order)
    how = rng.random()
    if how < 0.12:
        return b"".join(form.join(part, None) for part in _reordered(parts, form.split(other), rng))
    at = _weighted(parts, form, rng)
    kind, content = parts[at]
    start = form.holds(parts[at])
    stated = None
    if how < 0.18:
        stated = rng.choice((*INTEGERS, len(content) * 2, len(content) // 2, 1, 8, 15))
    elif how < 0.2:
        kind = rng.choice([part.kind for part in parts])
    elif start is not None:
        theirs = next((part.content[start:] for part in form.split(other) if part.kind == kind), other)
        content = content[:start] + _altered_nested(content[start:], theirs, rng, form)
    else:
        theirs = next((part.content for part in form.split(other) if part.kind == kind), other)
        content = altered_record(content, theirs, rng, order=form.order)
    joined = [form.join(part, None) for part in parts]
    joined[at] = form.join(Part(kind, content), stated)
    return b"".join(joined)


def _weighted(parts: Sequence[Part], form: _Nested, rng: random.Random) -> int:
    """Parts with parts in them more often: that is where names and numbers are."""
    return rng.choices(range(len(parts)), [6 if form.holds(part) is not None else 1 for part in parts])[0]


def _split_riff(data: bytes) -> list[Part]:
    found, place = [], 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, place)
        found.append(Part(kind, data[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return found


def _join_riff(part: Part, stated: int | None) -> bytes:
    size = len(part.content) if stated is None else stated & 0xFFFFFFFF
    return part.kind + struct.pack("<I", size) + part.content + b"\0" * (len(part.content) % 2)


_RIFF = _Nested(_split_riff, _join_riff, lambda part: 4 if part.kind == b"LIST" else None, "<")

_BOXES_WITHIN = {b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"edts": 0, b"udta": 0, b"dinf": 0, b"stsd": 8}


def _split_boxes(data: bytes) -> list[Part]:
    found, place = [], 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size < 8:
            break
        found.append(Part(kind, data[place + 8 : place + size]))
        place += size
    return found


def _join_box(part: Part, stated: int | None) -> bytes:
    if stated is not None and stated >= 1 << 31:
        return struct.pack(">I4s", 1, part.kind) + packed_integer(stated, 8, ">") + part.content
    return struct.pack(">I4s", len(part.content) + 8 if stated is None else stated & 0xFFFFFFFF, part.kind) + part.content


_MP4 = _Nested(_split_boxes, _join_box, lambda part: _BOXES_WITHIN.get(part.kind), ">")

_ELEMENTS_WITHIN = (
    0x18538067,
    0x114D9B74,
    0x4DBB,
    0x1549A966,
    0x1654AE6B,
    0xAE,
    0xE0,
    0x1F43B675,
    0xA0,
    0x1C53BB6B,
    0xBB,
    0xB7,
)
"""Segment, SeekHead, Seek, Info, Tracks, TrackEntry, Video, Cluster, BlockGroup, Cues, CuePoint, CueTrackPositions."""


def _split_elements(data: bytes) -> list[Part]:
    found, place = [], 0
    while place < len(data):
        length = 9 - data[place].bit_length()
        kind, place = data[place : place + length], place + length
        if length > 4 or place >= len(data) or not data[place]:
            break
        length = 9 - data[place].bit_length()
        size = int.from_bytes(data[place : place + length], "big") & ((1 << 7 * length) - 1)
        unknown, place = size == (1 << 7 * length) - 1, place + length
        found.append(Part(kind, data[place:] if unknown else data[place : place + size]))
        place = len(data) if unknown else place + size
    return found


def _join_element(part: Part, stated: int | None) -> bytes:
    size = len(part.content) if stated is None else stated & ((1 << 56) - 1)
    return part.kind + (size | 1 << 56).to_bytes(8, "big") + part.content


_MATROSKA = _Nested(
    _split_elements, _join_element, lambda part: 0 if int.from_bytes(part.kind, "big") in _ELEMENTS_WITHIN else None, ">"
)


def _tiff(data: bytes, rng: random.Random) -> bytes:
    """One entry of the directory, or its place."""
    order = "<" if data[:2] == b"II" else ">"
    found = bytearray(data)
    (place,) = struct.unpack_from(f"{order}I", data, 4)
    count = struct.unpack_from(f"{order}H", data, place)[0] if place + 2 <= len(data) else 0
    if not count or rng.random() < 0.1:
        struct.pack_into(f"{order}I", found, 4, rng.choice((0, 2, 4, 8, place, len(data) - 2, *INTEGERS)) & 0xFFFFFFFF)
        return bytes(found)
    for _ in range(rng.choice((1, 1, 2))):
        entry = place + 2 + 12 * rng.randrange(count)
        if entry + 12 > len(data):
            break
        field = rng.choice((0, 2, 4, 8, 8, 8))
        if field < 4:
            new = rng.choice(_TIFF_TAGS) if field == 0 else rng.randrange(20)
            struct.pack_into(f"{order}H", found, entry + field, new)
        else:
            new = rng.choice((*_SIDES, *range(9), 32773, 34925, 34712, 50000, len(data), len(data) - 4)) & 0xFFFFFFFF
            struct.pack_into(f"{order}I", found, entry + field, new)
    return bytes(found)


def _bmp(data: bytes, rng: random.Random) -> bytes:
    """One field of the headers."""
    found = bytearray(data)
    at, width = rng.choice(_BMP_FIELDS)
    value = rng.choice((*_SIDES, 1, 4, 8, 16, 24, 32, 12, 40, 108, 124, 54, -1, -64))
    found[at : at + width] = packed_integer(value, width, "<")
    return bytes(found)


def _ppm(data: bytes, rng: random.Random) -> bytes:
    """One word of the header."""
    words = data[:40].split(None, 4)
    if len(words) < 4:
        return data + b"0"
    words[rng.randrange(4)] = rng.choice(_PPM_WORDS)
    start = len(data[:40]) - len(words[4]) if len(words) > 4 else len(data)
    return b"\n".join(words[:4]) + b"\n" + data[start:]
