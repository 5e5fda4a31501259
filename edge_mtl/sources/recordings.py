"""Where calibration frames may come from: a folder, a labelled dataset's train split, a video, a ROS bag.

Knows files and their order; knows nothing about what makes a frame worth choosing. Frames are decoded only when somebody
asks for them, so that a source can be walked to its middle cheaply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_mtl.errors import CalibrationError, FrameError
from edge_mtl.files import sha256_bytes
from edge_mtl.sources.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, read_image

__all__ = ["FrameSource", "Still", "folder_frames", "given_frames", "open_frames", "video_frames"]

Array = np.ndarray

_BAG_SUFFIXES = (".bag", ".db3", ".mcap")
_TRAIN = "train"
_TARGET_ENDINGS = (".label.png", ".depth.png", ".normals.png")


@dataclass(frozen=True, slots=True)
class Still:
    """One frame that is not decoded yet.

    Attributes:
        name: unique within the source.
        load: (H, W, 3) uint8 RGB; FrameError where it cannot be decoded. Only valid until the next still is asked for.
    """

    name: str
    load: Callable[[], Array]


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Frames in a fixed order, which can be walked several times.

    Attributes:
        name: for messages and the manifest.
        kind: "folder", "train split", "video", "bag" or "frames".
        identity: digest of what the content depends on: another file or another order gives another one.
        count: how many there are; None where only walking tells.
        stills: starts a new walk. CalibrationError where the source turns out to be unreadable.
    """

    name: str
    kind: str
    identity: str
    count: int | None
    stills: Callable[[], Iterator[Still]]


def open_frames(path: Path, *, topic: str | None = None, every: int = 1) -> FrameSource:
    """The frames that `path` names.

    Args:
        path: a folder of images (of a folder with a sub-folder "train" only that one), a video, or a ROS 1 or 2 bag.
        topic: of the bag's images; needed where it has several.
        every: take only every n-th frame of a video or bag.
    Raises:
        CalibrationError: there is no such thing, or it holds no frames.
        BackendUnavailable: a bag, and the package rosbags is not installed.
    """
    if not path.exists():
        raise CalibrationError(f"{path} does not exist: a folder of images, a video or a ROS bag was expected.")
    if path.suffix.lower() in _BAG_SUFFIXES or (path.is_dir() and (path / "metadata.yaml").is_file()):
        from edge_mtl.sources.bags import bag_frames

        return bag_frames(path, topic=topic, every=every)
    if path.is_dir():
        return folder_frames(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return video_frames(path, every=every)
    raise CalibrationError(
        f"{path} is neither a folder of images, nor a video ({' '.join(VIDEO_SUFFIXES)}), "
        f"nor a bag ({' '.join(_BAG_SUFFIXES)})."
    )


def folder_frames(folder: Path) -> FrameSource:
    """The images in `folder` and below, by path; of a labelled dataset its train split.

    Raises:
        CalibrationError: it holds no images, or cannot be read.
    """
    split = folder / _TRAIN
    inside = split if split.is_dir() else folder
    try:
        paths = sorted(path for path in inside.rglob("*") if _is_image(path, inside))
        facts = [f"{path.relative_to(inside).as_posix()} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths]
    except OSError as exc:
        raise CalibrationError(f"{inside} cannot be read: {exc.strerror or exc}.") from exc
    if not paths:
        raise CalibrationError(
            f"{inside} holds no images ({' '.join(IMAGE_SUFFIXES)}): give a folder of images like those the device sees."
        )

    def stills() -> Iterator[Still]:
        for path in paths:
            yield Still(path.relative_to(inside).as_posix(), lambda path=path: read_image(path))  # type: ignore[misc]

    kind = "train split" if inside is split else "folder"
    return FrameSource(folder.resolve().name, kind, _identity(kind, str(inside.resolve()), facts), len(paths), stills)


def video_frames(path: Path, *, every: int = 1) -> FrameSource:
    """The frames of a video file; those that are not asked for are skipped without decoding their images.

    Raises:
        CalibrationError: it cannot be opened or holds no frame.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        opened = capture.isOpened() and capture.grab()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if opened else 0
    finally:
        capture.release()
    if not opened:
        raise CalibrationError(f"{path} cannot be decoded: it is damaged, empty or not a video.")

    def stills() -> Iterator[Still]:
        capture = cv2.VideoCapture(str(path))

        def retrieve() -> Array:
            fine, image = capture.retrieve()
            if not fine or image is None:
                raise FrameError("the frame cannot be decoded")
            return np.ascontiguousarray(image[:, :, ::-1])

        try:
            index = 0
            while capture.grab():
                if index % every == 0:
                    yield Still(f"{path.stem}-{index:06d}", retrieve)
                index += 1
        finally:
            capture.release()

    known = -(-count // every) if count > 0 else None
    return FrameSource(path.name, "video", file_identity("video", path, every), known, stills)


def given_frames(name: str, load: Callable[[int], Array], count: int, *, identity: str) -> FrameSource:
    """Frames by number from anything else, for example a training set.

    Args:
        load: frame `index` as (H, W, 3) uint8 RGB.
        identity: whatever the content depends on.
    Raises:
        CalibrationError: there are none.
    """
    if count < 1:
        raise CalibrationError(f"{name} holds no frames.")

    def stills() -> Iterator[Still]:
        for index in range(count):
            yield Still(f"{index:06d}", lambda index=index: load(index))  # type: ignore[misc]

    return FrameSource(name, "frames", _identity("frames", identity, [str(count)]), count, stills)


def file_identity(kind: str, path: Path, *details: object) -> str:
    """Identity of a recording: its files by name, size and time of change, and how it is read."""
    files = [entry for entry in sorted(path.rglob("*")) if entry.is_file()] if path.is_dir() else [path]
    facts = [f"{entry.name} {entry.stat().st_size} {entry.stat().st_mtime_ns}" for entry in files]
    return _identity(kind, str(path.resolve()), [*facts, *map(str, details)])


def _identity(kind: str, place: str, facts: Sequence[str]) -> str:
    return sha256_bytes("\n".join([kind, place, *facts]).encode())


def _is_image(path: Path, root: Path) -> bool:
    relative = path.relative_to(root)
    hidden = any(part.startswith(".") for part in relative.parts)
    named = path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.endswith(_TARGET_ENDINGS)
    return named and not hidden and path.is_file()
