"""Predictions as files: images, 16-bit depth, exact arrays, JSON, annotated videos. Each appears whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_mtl.files import plain, write_atomic
from edge_mtl.image.encoding import encode_image
from edge_mtl.image.memory import out_of_memory, require_memory
from edge_mtl.image.panel import panel
from edge_mtl.outputs.video_file import VideoFile
from edge_mtl.prediction import Prediction
from edge_mtl.sources.frame_source import Frame
from edge_mtl.tasks import DepthMap, LabelMap, kind_of
from edge_mtl.tasks.drawing import scales, tiles

__all__ = ["FILE_KINDS", "FileKind", "ResultWriter", "describe"]

FileKind = Literal["overlay", "panel", "png", "npz", "json"]
FILE_KINDS: tuple[FileKind, ...] = ("overlay", "panel", "png", "npz", "json")


_PEAK_BYTES: Mapping[FileKind, int] = {"overlay": 20, "panel": 20, "png": 12, "npz": 53, "json": 12}
"""Bytes a pixel that making the files of a kind takes at its peak, measured for classes, depth and normals."""
_OVER_THE_FRAME = ("boxes", "text")
"""Views that are drawn over an image and leave it visible: of results that are no maps."""
_SMALLER = "Reduce the frame, or ask for fewer tasks or kinds of files."


def describe(frame: Frame, prediction: Prediction) -> dict[str, Any]:
    """A frame and what was predicted on it, as plain values: what `--json` prints and files of the kind "json" hold.

    `results` has a summary of each task; beside it, for those who read them since 0.1: shares of the classes, median and
    known share of the depth, of the first tasks of these kinds. Timing is in milliseconds.
    """
    height, width = frame.pixels.shape[:2]
    summaries = {name: kind_of(result.spec).summary(result.spec, result) for name, result in prediction.results.items()}
    labels = next((name for name, result in prediction.results.items() if isinstance(result, LabelMap)), None)
    depth = next((result.depth_m for result in prediction.results.values() if isinstance(result, DepthMap)), None)
    found: dict[str, Any] = {"frame": frame.name, "width": width, "height": height}
    if labels is not None:
        found["classes"] = summaries[labels]["shares"]
    if depth is not None:
        known = depth[np.isfinite(depth)]
        found["depth_median_m"] = float(np.median(known)) if known.size else None
        found["depth_known_share"] = known.size / depth.size
    found["results"] = summaries
    found["bad_values"] = prediction.bad_values
    found["intrinsics_assumed"] = prediction.intrinsics_assumed
    found["depth_scale"] = prediction.depth_scale
    found["timing_ms"] = prediction.timing.milliseconds()
    return found


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
        self._draws = not {"overlay", "panel"}.isdisjoint(kinds)
        self._scales: dict[str, Any] = {}
        self._videos: dict[str, VideoFile] = {}
        if frame_rate is not None:
            self._videos = {kind: VideoFile(folder / f"{name}.{kind}.mp4", frame_rate) for kind in ("overlay", "panel")}

    def write(self, frame: Frame, prediction: Prediction) -> list[Path]:
        """Write one prediction; returns the finished files (videos are finished by `close`).

        Raises:
            FrameError: drawing or storing it does not fit into the memory that is left.
            OSError: the disk is full or the folder is not writable.
        """
        height, width = frame.pixels.shape[:2]
        need = max((_PEAK_BYTES[kind] for kind in self._kinds), default=0) * height * width
        require_memory(need, f"{frame.name} with its results", _SMALLER)
        with out_of_memory(f"{frame.name} with its results", _SMALLER):
            return self._write(frame, prediction)

    def _write(self, frame: Frame, prediction: Prediction) -> list[Path]:
        written: list[Path] = []
        drawn = tiles(frame.pixels, prediction.results, scales=self._common_scales(prediction)) if self._draws else []
        if "overlay" in self._kinds:
            written += self._image(frame, "overlay", self._overlay(frame, prediction, [image for _, image in drawn]))
        if "panel" in self._kinds:
            written += self._image(frame, "panel", panel(frame.pixels, drawn))
        files: dict[str, bytes] = {}
        if "png" in self._kinds:
            files |= _png_files(frame, prediction)
        if "npz" in self._kinds:
            files["npz"] = _npz(prediction)
        if "json" in self._kinds:
            files["json"] = json.dumps(plain(describe(frame, prediction)), allow_nan=False).encode()
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

    @staticmethod
    def _overlay(frame: Frame, prediction: Prediction, drawn: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The first map of classes over the frame, and over both what leaves them visible; of other maps alone the first.

        Args:
            drawn: of each result.
        """
        results = tuple(prediction.results.values())
        views = [kind_of(result.spec).viewed_as for result in results]
        over = [result for result, view in zip(results, views, strict=True) if view in _OVER_THE_FRAME]
        image = drawn[views.index("labels")] if "labels" in views else frame.pixels if over else drawn[0]
        for result in over:
            image = kind_of(result.spec).draw(result.spec, image, result)
        return image

    def _common_scales(self, prediction: Prediction) -> Mapping[str, Any]:
        """One scale for a whole video, a quarter wider than its first frame's; images get their own."""
        if self._videos and not self._scales:
            self._scales = scales(prediction.results, margin=0.25)
        return self._scales


def _png_files(frame: Frame, prediction: Prediction) -> dict[str, bytes]:
    """Content by file name suffix: results as images, those that are no maps drawn over the frame."""
    files: dict[str, bytes] = {}
    for name, result in prediction.results.items():
        kind = kind_of(result.spec)
        files |= kind.images(result.spec, result)
        if kind.viewed_as in _OVER_THE_FRAME and f"{name}.png" not in files:
            files[f"{name}.png"] = encode_image(kind.draw(result.spec, frame.pixels, result))
    return files


def _npz(prediction: Prediction) -> bytes:
    arrays: dict[str, Any] = {
        "intrinsics": np.array(list(prediction.intrinsics), np.float64),
        "intrinsics_assumed": np.array(prediction.intrinsics_assumed),
        "depth_scale": np.array(prediction.depth_scale),
    }
    for result in prediction.results.values():
        arrays |= kind_of(result.spec).arrays(result.spec, result)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()
