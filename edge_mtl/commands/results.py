"""Predictions as files: images, 16-bit depth, exact arrays, annotated videos. Each appears whole or not at all.

Knows file formats; knows nothing about engines.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.files import TEMPORARY_PREFIX, write_atomic
from edge_mtl.image.encoding import encode_image
from edge_mtl.image.panel import panel
from edge_mtl.prediction import Prediction
from edge_mtl.sources.media import Frame
from edge_mtl.tasks import kind_of
from edge_mtl.tasks.drawing import scales, tiles

__all__ = ["KINDS", "Kind", "ResultWriter"]

Kind = Literal["overlay", "panel", "png", "npz"]
KINDS: tuple[Kind, ...] = ("overlay", "panel", "png", "npz")


class ResultWriter:
    """Writes what `kinds` asks for into `folder`; as a context manager it finishes videos, or removes them on an error.

    Args:
        name: stem of the videos.
        frame_rate: frames per second where overlay and panel are to be videos, None where they are images.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kinds: Collection[Kind],
        name: str,
        frame_rate: float | None = None,
    ) -> None:
        self.folder = folder
        self._kinds = kinds
        self._scales: dict[str, Any] = {}
        self._videos: dict[str, _VideoFile] = {}
        if frame_rate is not None:
            self._videos = {kind: _VideoFile(folder / f"{name}.{kind}.mp4", frame_rate) for kind in ("overlay", "panel")}

    def write(self, frame: Frame, prediction: Prediction) -> list[Path]:
        """Write one prediction; returns the finished files (videos are finished by `close`).

        Raises:
            OSError: the disk is full or the folder is not writable.
        """
        written: list[Path] = []
        drawn = tiles(frame.pixels, prediction.results, scales=self._common_scales(prediction))
        if "overlay" in self._kinds:
            written += self._image(frame, "overlay", drawn[0][1])
        if "panel" in self._kinds:
            written += self._image(frame, "panel", panel(frame.pixels, drawn))
        files: dict[str, bytes] = {}
        if "png" in self._kinds:
            files |= _png_files(prediction)
        if "npz" in self._kinds:
            files["npz"] = _npz(prediction)
        for suffix, payload in files.items():
            path = self.folder / f"{frame.name}.{suffix}"
            write_atomic(path, payload)
            written.append(path)
        return written

    def close(self) -> list[Path]:
        """Finish the videos and return their paths."""
        videos, self._videos = self._videos, {}
        try:
            return [path for video in videos.values() if (path := video.finish()) is not None]
        finally:
            for video in videos.values():
                video.discard()

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for video in self._videos.values():
            video.discard()

    def _image(self, frame: Frame, kind: str, image: NDArray[np.uint8]) -> list[Path]:
        if kind in self._videos:
            self._videos[kind].add(image)
            return []
        path = self.folder / f"{frame.name}.{kind}.png"
        write_atomic(path, encode_image(image))
        return [path]

    def _common_scales(self, prediction: Prediction) -> Mapping[str, Any]:
        """One scale for a whole video, a quarter wider than its first frame's; images get their own."""
        if self._videos and not self._scales:
            self._scales = scales(prediction.results, margin=0.25)
        return self._scales


def _png_files(prediction: Prediction) -> dict[str, bytes]:
    """Content by file name suffix, for the results that are there."""
    files: dict[str, bytes] = {}
    for result in prediction.results.values():
        files |= kind_of(result.spec).images(result.spec, result)
    return files


def _npz(prediction: Prediction) -> bytes:
    arrays: dict[str, Any] = {
        "intrinsics": np.array(list(prediction.intrinsics), np.float64),
        "intrinsics_assumed": np.array(prediction.intrinsics_assumed),
    }
    for result in prediction.results.values():
        arrays |= kind_of(result.spec).arrays(result.spec, result)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


class _VideoFile:
    """An MP4 written beside its final place and moved there once it is complete."""

    def __init__(self, path: Path, frame_rate: float) -> None:
        self._path = path
        self._frame_rate = frame_rate
        self._writer: cv2.VideoWriter | None = None
        self._temporary: Path | None = None
        self._count = 0

    def add(self, rgb: NDArray[np.uint8]) -> None:
        """Append a frame; all have the size of the first."""
        height, width = (side - side % 2 for side in rgb.shape[:2])  # the codec stores colour at half resolution
        if self._writer is None:
            self._open(width, height)
        assert self._writer is not None
        self._writer.write(np.ascontiguousarray(rgb[:height, :width, ::-1]))
        self._count += 1

    def finish(self) -> Path | None:
        """Complete the file and return its path; None if there was no frame.

        Raises:
            OSError: not all frames arrived on the disk (encoders do not report a full one).
        """
        if self._writer is None or self._temporary is None:
            return None
        self._writer.release()
        self._writer = None
        check = cv2.VideoCapture(str(self._temporary))
        arrived = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if arrived != self._count:
            message = f"only {max(arrived, 0)} of {self._count} frames could be written; is the disk full?"
            raise OSError(errno.ENOSPC, message, str(self._path))
        with self._temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(self._temporary, 0o644)
        os.replace(self._temporary, self._path)
        self._temporary = None
        return self._path

    def discard(self) -> None:
        """Remove what is unfinished."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _open(self, width: int, height: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=".mp4", dir=self._path.parent)
        os.close(descriptor)
        self._temporary = Path(name)
        self._writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), self._frame_rate, (width, height))
        if not self._writer.isOpened():
            raise OSError(errno.EIO, "this OpenCV cannot write MP4 video; use --save png or npz", str(self._path))
