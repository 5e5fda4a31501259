"""Videos: AVI, MP4 and Matroska, their frames walked to the end of what a predictor would take."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from edge_mtl.sources.video_containers import video_facts
from edge_mtl.sources.videos import video_source
from tests.reliability.fuzz.formats import damaged_video
from tests.reliability.fuzz.target import Target
from tests.video_files import retimed, trimmed, write_video

__all__ = ["TARGETS"]

_MOST_FRAMES = 20
_CODECS = {"avi": ("MJPG", "XVID"), "mp4": ("mp4v",), "mkv": ("MJPG", "mp4v")}


def _open_as(suffix: str) -> Callable[[Path], Callable[[bytes], None]]:
    def opened(folder: Path) -> Callable[[bytes], None]:
        path = folder / f"tour.{suffix}"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            video_facts(path)
            ignored: list[object] = []
            frames = video_source(path).frames(on_skip=ignored.append, on_end=ignored.append)
            for frame in islice(frames, _MOST_FRAMES):
                assert frame.pixels.ndim == 3
            frames.close()

        return read

    return opened


def _seeds(suffix: str) -> Callable[[Path], Sequence[bytes]]:
    def of_kind(folder: Path) -> Sequence[bytes]:
        files = [write_video(folder / f"{codec}.{suffix}", 6, codec=codec) for codec in _CODECS[suffix]]
        if suffix == "mp4":
            for name, change in (
                ("late", lambda path: retimed(path, [(3, 100), (3, 900)])),
                ("cut", lambda path: trimmed(path, hidden=0.3)),
            ):
                files.append(write_video(folder / f"{name}.mp4", 6))
                change(files[-1])
            far = files[0].read_bytes()
            files.append(folder / "far.mp4")  # the index by a long size
            place = far.index(b"moov") - 4
            (size,) = struct.unpack_from(">I", far, place)
            files[-1].write_bytes(far[:place] + struct.pack(">I4sQ", 1, b"moov", size + 8) + far[place + 8 :])
        return [path.read_bytes() for path in files]

    return of_kind


TARGETS = tuple(
    Target(f"videos-{suffix}", "fuzz-media", _open_as(suffix), _seeds(suffix), damaged_video, native=True) for suffix in _CODECS
)
