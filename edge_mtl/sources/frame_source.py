"""What every source of frames gives: frames in order, decoded when asked for, with a time and a camera where it knows them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_mtl.errors import FrameError, SourceEndedEarly
from edge_mtl.files import sha256_bytes
from edge_mtl.image.bit_depth import FULL_BITS
from edge_mtl.image.frames import Intrinsics

__all__ = [
    "Frame",
    "FrameSource",
    "MessageStamp",
    "SourceKind",
    "Still",
    "Tap",
    "bits_identity",
    "check_end",
    "file_identity",
    "identity_of",
]

SourceKind = Literal["image", "folder", "train split", "video", "camera", "bag", "frames"]

_SKIPPING = ("folder", "train split", "video", "bag")
"""Kinds of many frames of which one that cannot be read is named and left out; elsewhere it is an error."""


_TOLERATED_FRAMES = 2
_TOLERATED_SHARE, _TOLERATED_OF_ESTIMATES = 0.02, 0.1


def check_end(name: str, given: int, announced: int | None, *, reached: int | None = None, counted: bool = True) -> None:
    """Whether a recording that was read to its end gave what it announces.

    It ended early where more than two frames are missing and more than 2 % of those announced; 10 % where their number is an
    estimate, because sound may last longer than the images. Frames that were left out in between, as with a variable rate,
    are not missing: `reached` counts up to the time of the last one.

    Args:
        given: frames that came.
        announced: frames that the file says it has; None where it says nothing that is possible.
        reached: frames that there would be, at the announced rate, until the last one; `given` where None.
        counted: the file says how many frames there are; else their number is an estimate.
    Raises:
        SourceEndedEarly: it ended early.
    """
    if announced is None:
        return
    share = _TOLERATED_SHARE if counted else _TOLERATED_OF_ESTIMATES
    if announced - max(given, reached or 0) > max(_TOLERATED_FRAMES, share * announced):
        raise SourceEndedEarly(
            f"{name} ended after {given} frames and announces {announced}: it is cut short or damaged there. Copy it again."
        )


@dataclass(frozen=True, slots=True)
class MessageStamp:
    """Of a frame from a bag: its time in the recording in nanoseconds, and the header of its message."""

    time_ns: int
    sec: int
    nanosec: int
    frame_id: str


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        name: unique within the source.
        pixels: (H, W, 3) uint8 RGB.
        time_s: seconds since the first frame; None for images, which have no times.
        intrinsics: the camera in pixels of the frame; None where the source does not know it.
        stamp: of frames from a bag, else None.
        oddities: what looks wrong about it, in sentences, though it can be used.
        lens: why the frame may not be taken for a pinhole camera's, a sentence; empty where it may, or nothing is known.
    """

    name: str
    pixels: NDArray[np.uint8]
    time_s: float | None = None
    intrinsics: Intrinsics | None = None
    stamp: MessageStamp | None = None
    oddities: tuple[str, ...] = ()
    lens: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """One frame that is not decoded yet.

    Attributes:
        name: unique within the source.
        load: decodes it; FrameError where that fails. Only valid until the next still is asked for.
        remarks: what could not be read before this frame and is not a frame, as "name: reason".
    """

    name: str
    load: Callable[[], Frame]
    remarks: tuple[str, ...] = ()


Tap = Callable[[Any, Any, int, bytes], None]
"""Gets every message of a bag: (reader, connection, time in nanoseconds, bytes)."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameSource:
    """Frames in a fixed order.

    Attributes:
        name: of the file, folder or device, for messages and manifests.
        kind: what the frames come from.
        contents: what it holds, for messages: "images in FOLDER".
        identity: digest of what the content depends on: another file or another order gives another one.
        count: number of frames; None where only a walk finds out (cameras, some videos).
        stills: starts a new walk; a camera allows one. FrameError where the source turns out to be unreadable, and
            SourceEndedEarly after its last frame.
        frame_rate: frames per second of a video or camera, else None.
        topic, camera_topic: of a bag: where its images and their camera_info are.
        tapped: of a bag: starts a walk that gives every message of the recording to a function first.
        left_out: of a bag: why a topic cannot be understood, by its name; nothing of it is read or given to a function.
    """

    name: str
    kind: SourceKind
    contents: str
    identity: str
    count: int | None
    stills: Callable[[], Generator[Still]]
    frame_rate: float | None = None
    topic: str | None = None
    camera_topic: str | None = None
    tapped: Callable[[Tap], Generator[Still]] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The name without the suffix of a file, fit for the names of results."""
        return Path(self.name).stem if self.kind in ("image", "video") else self.name

    def frames(
        self,
        *,
        limit: int | None = None,
        on_skip: Callable[[str], None] | None = None,
        on_remark: Callable[[str], None] | None = None,
        on_oddity: Callable[[str], None] | None = None,
        on_end: Callable[[SourceEndedEarly], None] | None = None,
    ) -> Generator[Frame]:
        """A new walk over the frames that can be read; closing it frees the file or device.

        Args:
            limit: stop after this many frames.
            on_skip: called with "name: reason" for each frame that cannot be read and is left out.
            on_remark: called with "name: reason" for what else cannot be read.
            on_oddity: called with "name: what looks wrong" of a frame that is used all the same; once for each wording.
            on_end: called where the source ended before the number of frames that it announces; a warning of Python by default.
        Raises:
            FrameError: the only frame, or none of many, can be read.
        """
        given, skipped = 0, []
        told: set[str] = set()
        with closing(self.walk(on_end)) as stills:
            for still in stills:
                if on_remark is not None:
                    for remark in still.remarks:
                        on_remark(remark)
                try:
                    frame = still.load()
                except FrameError as exc:
                    if self.kind not in _SKIPPING:
                        raise
                    skipped.append(str(exc) if still.name in str(exc) else f"{still.name}: {exc}")
                    if on_skip is not None:
                        on_skip(skipped[-1])
                    continue
                if on_oddity is not None:
                    for oddity in frame.oddities:
                        if oddity not in told:
                            told.add(oddity)
                            on_oddity(f"{frame.name}: {oddity}")
                yield frame
                del frame, still  # a large frame would stay while the next one is decoded
                given += 1
                if given == limit:
                    return
        if skipped and not given:
            raise FrameError(f"None of the {len(skipped)} {self.contents} can be read; the first: {skipped[0]}")

    def walk(self, on_end: Callable[[SourceEndedEarly], None] | None = None) -> Generator[Still]:
        """A new walk that reports an early end, see `frames`, in place of raising it."""
        walked = 0
        try:
            with closing(self.stills()) as stills:
                for still in stills:
                    yield still
                    walked += 1
            if self.kind == "bag":
                check_end(self.name, walked, self.count)
        except SourceEndedEarly as exc:
            if on_end is None:
                warnings.warn(str(exc), stacklevel=3)
            else:
                on_end(exc)


def identity_of(kind: str, place: str, facts: Sequence[str]) -> str:
    """Digest of a source's kind, place and whatever else its content depends on."""
    return sha256_bytes("\n".join([kind, place, *facts]).encode(errors="surrogateescape"))  # names need not be UTF-8


def bits_identity(bits: int) -> tuple[str, ...]:
    """What `bits` of 16 that are filled add to an identity; nothing where the full range is."""
    return () if bits == FULL_BITS else (f"{bits} bits",)


def file_identity(kind: str, path: Path, *details: object) -> str:
    """Identity of a recording: its files by name, size and time of change, and how it is read."""
    files: Iterator[Path] | list[Path] = (entry for entry in sorted(path.rglob("*")) if entry.is_file())
    files = files if path.is_dir() else [path]
    facts = [f"{entry.name} {entry.stat().st_size} {entry.stat().st_mtime_ns}" for entry in files]
    return identity_of(kind, str(path.resolve()), [*facts, *map(str, details)])
