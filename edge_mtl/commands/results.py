"""Predictions as files: images, 16-bit depth, exact arrays, annotated videos. Each appears whole or not at all.

Knows file formats; knows nothing about engines.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import tempfile
import zlib
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.files import TEMPORARY_PREFIX, write_atomic
from edge_mtl.image.colour import colour_depth, colour_normals, depth_range
from edge_mtl.image.panel import overlay, panel
from edge_mtl.prediction import Prediction
from edge_mtl.sources.media import Frame
from edge_mtl.tasks import NYU13_PALETTE

__all__ = ["KINDS", "Kind", "ResultWriter", "encode_depth", "encode_image", "encode_labels"]

Kind = Literal["overlay", "panel", "png", "npz"]
KINDS: tuple[Kind, ...] = ("overlay", "panel", "png", "npz")

_MAX_DEPTH_MM = 65535


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
        self._range_m: tuple[float, float] | None = None
        self._videos: dict[str, _VideoFile] = {}
        if frame_rate is not None:
            self._videos = {kind: _VideoFile(folder / f"{name}.{kind}.mp4", frame_rate) for kind in ("overlay", "panel")}

    def write(self, frame: Frame, prediction: Prediction) -> list[Path]:
        """Write one prediction; returns the finished files (videos are finished by `close`).

        Raises:
            OSError: the disk is full or the folder is not writable.
        """
        written: list[Path] = []
        if "overlay" in self._kinds and prediction.segmentation is not None:
            written += self._image(frame, "overlay", overlay(frame.pixels, prediction.segmentation, classes=prediction.classes))
        if "panel" in self._kinds:
            image = panel(frame.pixels, prediction, classes=prediction.classes, range_m=self._depth_range(prediction))
            written += self._image(frame, "panel", image)
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

    def _depth_range(self, prediction: Prediction) -> tuple[float, float] | None:
        """One colour scale for a whole video, a quarter wider than its first frame's; images get their own."""
        if self._videos and self._range_m is None and prediction.depth is not None:
            near, far = depth_range(prediction.depth)
            self._range_m = near * 0.75, far * 1.25
        return self._range_m


def encode_image(rgb: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB image as PNG."""
    return _png(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def encode_depth(depth_m: NDArray[np.float32]) -> bytes:
    """Depth (H, W) float32 metres as 16-bit grey PNG in millimetres; 0 is unknown, 65535 is that far or farther."""
    known = np.isfinite(depth_m) & (depth_m > 0)
    millimetres = np.round(np.where(known, depth_m, 0.0) * 1000.0)
    return _png(np.clip(millimetres, 0, _MAX_DEPTH_MM).astype(np.uint16))


def encode_labels(labels: NDArray[np.uint8], *, palette: NDArray[np.uint8] = NYU13_PALETTE) -> bytes:
    """Class indices (H, W) uint8 as PNG with a palette: viewers show colours, readers of indices get the classes."""
    grey = _png(labels)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    # Indexed and grey 8-bit pixels are stored alike: change the colour type in the header, then insert the palette.
    signature, header, rest = grey[:8], bytearray(grey[16:29]), grey[33:]
    header[9] = 3
    return signature + _chunk(b"IHDR", bytes(header)) + _chunk(b"PLTE", table.tobytes()) + rest


def _png_files(prediction: Prediction) -> dict[str, bytes]:
    """Content by file name suffix, for the maps that are there."""
    files: dict[str, bytes] = {}
    if prediction.segmentation is not None:
        files["segmentation.png"] = encode_labels(prediction.segmentation)
    if prediction.depth is not None:
        files["depth.png"] = encode_depth(prediction.depth)
        files["depth-colour.png"] = encode_image(colour_depth(prediction.depth))
    if prediction.normals is not None:
        files["normals.png"] = encode_image(colour_normals(prediction.normals))
    return files


def _npz(prediction: Prediction) -> bytes:
    arrays: dict[str, Any] = {
        "segmentation": prediction.segmentation,
        "confidence": prediction.confidence,
        "depth": prediction.depth,
        "normals": prediction.normals,
        "intrinsics": np.array(list(prediction.intrinsics), np.float64),
        "intrinsics_assumed": np.array(prediction.intrinsics_assumed),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: array for name, array in arrays.items() if array is not None})
    return stream.getvalue()


def _png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise OSError(errno.EIO, "a PNG could not be encoded")
    return bytes(encoded.tobytes())


def _chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk (W3C PNG specification, section 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


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
