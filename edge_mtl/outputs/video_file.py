"""An MP4 file, written frame by frame, that appears whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.files import naming, native_path
from edge_mtl.unfinished import make_file, unfinished_name

__all__ = ["VideoFile"]


class VideoFile:
    """An MP4 written beside its final place and moved there once it is complete."""

    def __init__(self, path: Path, frame_rate: float) -> None:
        self._path = path
        self._frame_rate = frame_rate
        self._writer: cv2.VideoWriter | None = None
        self._temporary: Path | None = None
        self._held: int | None = None
        self._count = 0
        self._name = ExitStack()

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
        self._name.close()
        with native_path(self._temporary) as name:
            check = cv2.VideoCapture(name)
            arrived = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
        if arrived != self._count:
            message = f"only {max(arrived, 0)} of {self._count} frames could be written; is the disk full?"
            raise OSError(errno.ENOSPC, message, str(self._path))
        with naming(self._path):
            with self._temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            os.chmod(self._temporary, 0o644)
            os.replace(self._temporary, self._path)
        self._temporary = None
        self._let_go()
        return self._path

    def discard(self) -> None:
        """Remove what is unfinished."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._name.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None
        self._let_go()

    def _let_go(self) -> None:
        """Close what kept others from sweeping the unfinished file."""
        descriptor, self._held = self._held, None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self, width: int, height: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = unfinished_name(self._path.parent, suffix=".mp4")
        with naming(self._path):
            self._held = make_file(self._temporary)
        name = self._name.enter_context(native_path(self._temporary))
        self._writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), self._frame_rate, (width, height))
        if not self._writer.isOpened():
            raise OSError(errno.EIO, "this OpenCV cannot write MP4 video; use --files png or npz", str(self._path))
