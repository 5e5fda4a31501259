"""Where frames come from: images, folders, videos and cameras, all as (H, W, 3) uint8 RGB.

Knows files, codecs and capture devices; knows nothing about networks or predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.errors import FrameError

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "Frame", "Source", "list_images", "open_source", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")

_MAX_FILE_BYTES = 512 << 20
_MAX_FRAME_RATE = 240.0


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of a source: `pixels` (H, W, 3) uint8 RGB; `name` is unique within the source and fit for a file name."""

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Frames in order, read lazily and once.

    Attributes:
        kind: what the frames come from.
        name: short name of the source, fit for a file name.
        count: number of frames, None where it is not known (cameras, some videos).
        frame_rate: frames per second of a video or camera, None for images.
        frames: the frames; closing this iterator frees the file or device.
        skipped: what could not be read so far, as "path: reason"; grows while `frames` is consumed.
    """

    kind: Literal["image", "folder", "video", "camera"]
    name: str
    count: int | None
    frame_rate: float | None
    frames: Iterator[Frame]
    skipped: list[str]


def open_source(text: str, *, limit: int | None = None, on_skip: Callable[[str], None] | None = None) -> Source:
    """Open what `text` names: an image, a folder of images, a video file, `camera:N` or just `N`.

    Args:
        limit: stop after this many frames.
        on_skip: called with "path: reason" for every image of a folder that cannot be read.
    Raises:
        FrameError: there is no such thing, or nothing in it can be read. A folder raises once all its images failed.
    """
    if text.startswith("camera:") or (text.isdecimal() and not Path(text).exists()):
        return _camera(text, limit)
    path = Path(text)
    if path.is_dir():
        return _folder(path, limit, on_skip)
    if not path.is_file():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise FrameError(f"{path} {what}: expected an image, a folder of images, a video or camera:N.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _video(path, limit)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Source("image", path.stem, 1, None, iter([Frame(path.stem, read_image(path))]), [])
    raise FrameError(
        f"{path} is neither an image ({' '.join(IMAGE_SUFFIXES)}) nor a video ({' '.join(VIDEO_SUFFIXES)}): "
        "convert it, or rename it if only its suffix is unusual."
    )


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8 RGB, turned upright as its EXIF data says; grey is repeated, transparency dropped.

    Raises:
        FrameError: the file is missing, too large, not an image, damaged, or has more than 8 bits per channel.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise FrameError(f"{path} is too large for an image: at most {_MAX_FILE_BYTES >> 20} MiB expected.")
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as exc:
        raise FrameError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    if encoded.size == 0:
        raise FrameError(f"{path} is empty: expected an image.")
    try:
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except (cv2.error, MemoryError) as exc:
        raise FrameError(f"{path} cannot be decoded: its size or format is not supported.") from exc
    if decoded is None:
        raise FrameError(f"{path} cannot be decoded: it is damaged or not an image.")
    if decoded.dtype != np.uint8:
        raise FrameError(
            f"{path} holds {decoded.dtype} pixels: expected 8 bits per channel. Convert it to an 8-bit RGB image; "
            "if it is a depth map, it is not an input."
        )
    return np.ascontiguousarray(decoded[:, :, ::-1])


def list_images(folder: Path) -> list[Path]:
    """The images directly in `folder`, sorted by name; hidden files are left out.

    Raises:
        FrameError: there is none, or the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as exc:
        raise FrameError(f"{folder} cannot be read: {exc.strerror or exc}.") from exc
    found = [p for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()]
    if not found:
        raise FrameError(f"{folder} has no images: expected files with {' '.join(IMAGE_SUFFIXES)}.")
    return found


def _folder(folder: Path, limit: int | None, on_skip: Callable[[str], None] | None) -> Source:
    paths = list_images(folder)[:limit]
    stems = [path.stem for path in paths]
    skipped: list[str] = []

    def frames() -> Iterator[Frame]:
        for path in paths:
            try:
                pixels = read_image(path)
            except FrameError as exc:
                skipped.append(str(exc))
                if on_skip is not None:
                    on_skip(str(exc))
                continue
            unique = stems.count(path.stem) == 1
            yield Frame(path.stem if unique else path.name.replace(".", "-"), pixels)
        if len(skipped) == len(paths):
            raise FrameError(f"None of the {len(paths)} images in {folder} can be read; the first: {skipped[0]}")

    return Source("folder", folder.resolve().name or "folder", len(paths), None, frames(), skipped)


def _video(path: Path, limit: int | None) -> Source:
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    first = capture.read()[1] if capture.isOpened() else None
    if first is None:
        capture.release()
        raise FrameError(f"{path} cannot be decoded: it is damaged, empty or not a video.")
    known = count if count > 0 else None
    if limit is not None:
        known = limit if known is None else min(known, limit)
    return Source("video", path.stem, known, _frame_rate(capture), _capture_frames(capture, first, path.stem, limit), [])


def _camera(text: str, limit: int | None) -> Source:
    number = text.removeprefix("camera:")
    if not number.isdecimal():
        raise FrameError(f"{text} names no camera: expected camera:N with a number, such as camera:0.")
    capture = cv2.VideoCapture(int(number))
    first = capture.read()[1] if capture.isOpened() else None
    if first is None:
        capture.release()
        raise FrameError(f"Camera {number} cannot be opened: see `ls /dev/video*` for the cameras here, and who uses them.")
    name = f"camera-{number}"
    return Source("camera", name, limit, _frame_rate(capture), _capture_frames(capture, first, name, limit), [])


def _frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames per second as the container or driver says; 25 where it says nothing sensible."""
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0.0 < rate <= _MAX_FRAME_RATE else 25.0


def _capture_frames(capture: cv2.VideoCapture, first: NDArray[np.uint8], name: str, limit: int | None) -> Iterator[Frame]:
    index, bgr = 0, first
    try:
        while bgr is not None and (limit is None or index < limit):
            yield Frame(f"{name}-{index:06d}", np.ascontiguousarray(bgr[:, :, ::-1]))
            bgr = capture.read()[1]
            index += 1
    finally:
        capture.release()
