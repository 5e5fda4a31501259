"""What the file of a video says of itself, read without a decoder: its codec, and how much of it an edit list shows.

OpenCV names no codec of a file that it cannot open, and counts the frames that an edit list hides, such as those that
`ffmpeg -c copy` leaves before a cut.

Sources: ISO/IEC 14496-12 (boxes of MP4 and MOV), RFC 9559 (Matroska, WebM), Microsoft's AVI RIFF reference.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["VideoFacts", "codec_name", "video_facts"]

_HEAD_BYTES = 1 << 20
_MOST_MOOV_BYTES = 256 << 20
_MATROSKA = b"\x1a\x45\xdf\xa3"
_MATROSKA_CODEC = re.compile(rb"\x86[\x80-\xff](V_[A-Z0-9/_]+)")
_AVI_CODEC = re.compile(rb"strf.{4}.{16}(.{4})", re.DOTALL)

_CODECS = {
    "av01": "AV1",
    "v_av1": "AV1",
    "avc1": "H.264",
    "avc3": "H.264",
    "h264": "H.264",
    "hev1": "H.265",
    "hvc1": "H.265",
    "hevc": "H.265",
    "vvc1": "H.266",
    "mp4v": "MPEG-4",
    "fmp4": "MPEG-4",
    "mjpg": "Motion JPEG",
    "vp80": "VP8",
    "vp90": "VP9",
    "vp09": "VP9",
    "apch": "ProRes",
    "apcn": "ProRes",
}


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a file says.

    Attributes:
        codec: the four characters of MP4 and AVI, or the identifier of Matroska; empty where it is not found.
        indexed: the file lists every frame, so that their number is exact: MP4 and MOV that are not fragmented.
        counted: it says how many there are, though some may be left out: AVI, and whatever is indexed. Elsewhere, such as in
            Matroska, OpenCV estimates the number as duration by rate.
        shown: share of its frames that an edit list leaves, 0..1.
    """

    codec: str = ""
    indexed: bool = False
    counted: bool = False
    shown: float = 1.0


def video_facts(path: Path) -> VideoFacts:
    """What the file says; what cannot be read is as if it said nothing."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            if head[:4] == _MATROSKA:
                found = _MATROSKA_CODEC.search(head)
                return VideoFacts("" if found is None else found.group(1).decode("ascii"))
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                found = _AVI_CODEC.search(head)
                return VideoFacts("" if found is None else _letters(found.group(1)), counted=True)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
                return _movie(_moov(stream))
    except (OSError, struct.error, ArithmeticError, LookupError, ValueError):  # places and lengths that are none
        pass
    return VideoFacts()


def codec_name(codec: str) -> str:
    """A codec for people: "AV1 (av01)"; as it is where nothing is known of it."""
    known = _CODECS.get(codec.lower())
    return codec if known is None else f"{known} ({codec})"


def _letters(four: bytes) -> str:
    return four.decode("ascii", errors="replace").strip("\0 ") if four.isascii() and four.strip(b"\0 ").isalnum() else ""


def _moov(stream: BinaryIO) -> bytes:
    """The content of the box with the index; empty where the file ends before it."""
    place = 0
    while True:
        stream.seek(place)
        header = stream.read(16)
        if len(header) < 8:
            return b""
        size, kind = struct.unpack_from(">I4s", header)
        start = 8
        if size == 1 and len(header) == 16:
            (size,), start = struct.unpack_from(">Q", header, 8), 16
        if kind == b"moov":
            stream.seek(place + start)
            return stream.read(min(size - start, _MOST_MOOV_BYTES) if size else _MOST_MOOV_BYTES)
        if size < start:  # 0: to the end of the file
            return b""
        place += size


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in another one's content."""
    place = 0
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        if size < 8:
            return
        yield kind, content[place + 8 : place + size]
        place += size


def _box(content: bytes, *path: bytes) -> bytes:
    """The content of the first box at a path; empty where there is none."""
    for name in path:
        content = next((inside for kind, inside in _boxes(content) if kind == name), b"")
    return content


def _movie(moov: bytes) -> VideoFacts:
    for kind, track in _boxes(moov):
        if kind != b"trak" or _box(track, b"mdia", b"hdlr")[8:12] != b"vide":
            continue
        codec = _letters(_box(track, b"mdia", b"minf", b"stbl", b"stsd")[12:16])
        indexed = not _box(moov, b"mvex")
        return VideoFacts(codec, indexed, indexed, _shown(track, moov) if indexed else 1.0)
    return VideoFacts()


def _shown(track: bytes, moov: bytes) -> float:
    """The share of a track's duration that its edit list shows; 1 without one."""
    edits = _box(track, b"edts", b"elst")
    if not edits:
        return 1.0
    long = edits[0] == 1
    (count,) = struct.unpack_from(">I", edits, 4)
    entries = [struct.unpack_from(">Qq" if long else ">Ii", edits, 8 + (20 if long else 12) * index) for index in range(count)]
    shown_s = sum(duration for duration, start in entries if start >= 0) / _timing(_box(moov, b"mvhd"))[0]
    scale, duration = _timing(_box(track, b"mdia", b"mdhd"))
    return min(shown_s * scale / duration, 1.0) if shown_s > 0 else 1.0


def _timing(header: bytes) -> tuple[int, int]:
    """Units a second and duration in them, of an mvhd or mdhd box."""
    found: tuple[int, int] = struct.unpack_from(">IQ", header, 20) if header[0] == 1 else struct.unpack_from(">II", header, 12)
    return found
