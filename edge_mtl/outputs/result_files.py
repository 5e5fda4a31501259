"""Predictions as files: images, 16-bit depth, exact arrays, annotated videos. Each appears whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_mtl.files import write_atomic
from edge_mtl.image.colour import colour_depth, colour_normals, depth_range
from edge_mtl.image.panel import overlay, panel
from edge_mtl.outputs.png import encode_depth, encode_image, encode_labels
from edge_mtl.outputs.video_file import VideoFile
from edge_mtl.prediction import Prediction
from edge_mtl.sources.frame_source import Frame

__all__ = ["FILE_KINDS", "FileKind", "ResultWriter"]

FileKind = Literal["overlay", "panel", "png", "npz"]
FILE_KINDS: tuple[FileKind, ...] = ("overlay", "panel", "png", "npz")


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
        kinds: Collection[FileKind],
        name: str,
        frame_rate: float | None = None,
    ) -> None:
        self.folder = folder
        self._kinds = kinds
        self._range_m: tuple[float, float] | None = None
        self._videos: dict[str, VideoFile] = {}
        if frame_rate is not None:
            self._videos = {kind: VideoFile(folder / f"{name}.{kind}.mp4", frame_rate) for kind in ("overlay", "panel")}

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
