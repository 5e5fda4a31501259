"""Video files with what OpenCV cannot write: variable frame rates, edit lists, other codecs' names; and files that were cut."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

__all__ = ["cut", "renamed_codec", "retimed", "trimmed", "write_video"]

_HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
Change = Callable[[bytes], bytes]


def write_video(path: Path, frames: int, *, codec: str = "mp4v", rate: float = 10.0) -> Path:
    """Noise of 48x64, so that no frame is left out; frame `n` has the brightness 2 n."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (64, 48))
    assert writer.isOpened()
    noise = np.random.default_rng(0).integers(-8, 9, (48, 64, 3))
    for index in range(frames):
        writer.write(np.clip(noise * (-1) ** index + 2 * index + 20, 0, 255).astype(np.uint8))
    writer.release()
    return path


def cut(path: Path, share: float) -> Path:
    """The beginning of a file, beside it."""
    payload = path.read_bytes()
    shorter = path.with_stem(f"{path.stem}-cut")
    shorter.write_bytes(payload[: round(len(payload) * share)])
    return shorter


def retimed(path: Path, runs: list[tuple[int, int]]) -> None:
    """Give an MP4 other times: (frames, duration of each in units of its media); the index lies behind the frames."""
    table = struct.pack(">II", 0, len(runs)) + b"".join(struct.pack(">II", *run) for run in runs)
    total = sum(count * duration for count, duration in runs)

    def longer(header: bytes) -> bytes:
        return header[:16] + struct.pack(">I", total) + header[20:]

    _rewrite(path, {b"stts": lambda old: table, b"mdhd": longer, b"elst": lambda old: _edits(path, 0, total)})


def trimmed(path: Path, *, hidden: float) -> None:
    """Let an MP4's edit list leave out the first share of its frames, as `ffmpeg -ss ... -c copy` does."""
    payload = path.read_bytes()
    (duration,) = struct.unpack_from(">I", payload, payload.index(b"mdhd") + 20)
    edits = _edits(path, round(duration * hidden), round(duration * (1 - hidden)))
    _rewrite(path, {b"elst": lambda old: edits})


def renamed_codec(path: Path, codec: bytes) -> None:
    """Let a Matroska file of Motion JPEG claim to hold another codec."""
    payload = path.read_bytes()
    assert payload.count(b"V_MJPEG") == 1
    path.write_bytes(payload.replace(b"V_MJPEG", codec.ljust(7, b"\0")))


def _edits(path: Path, start: int, duration: int) -> bytes:
    """An edit list that shows a part of the media, both in its units."""
    payload = path.read_bytes()
    media, movie = (struct.unpack_from(">I", payload, payload.index(kind) + 16)[0] for kind in (b"mdhd", b"mvhd"))
    return struct.pack(">IIIiI", 0, 1, round(duration / media * movie), start, 1 << 16)


def _rewrite(path: Path, changes: Mapping[bytes, Change]) -> None:
    changed, found = _rewritten(path.read_bytes(), changes)
    assert found == len(changes)
    path.write_bytes(changed)


def _rewritten(content: bytes, changes: Mapping[bytes, Change]) -> tuple[bytes, int]:
    place, parts, found = 0, [], 0
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        inside = content[place + 8 : place + size]
        if kind in changes:
            inside, found = changes[kind](inside), found + 1
        elif kind in _HOLDERS:
            inside, deeper = _rewritten(inside, changes)
            found += deeper
        parts.append(struct.pack(">I4s", len(inside) + 8, kind) + inside)
        place += size
    return b"".join(parts), found
