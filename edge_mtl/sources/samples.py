"""What the demo predicts on: labelled frames of a bundle, and a photograph that comes with scikit-image.

Knows where samples are; knows nothing about engines or drawing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mtl.bundle import Bundle
from edge_mtl.errors import FrameError
from edge_mtl.evaluation.labelled_frames import LabelledFrame, evaluation_frames
from edge_mtl.sources.images import read_image
from edge_mtl.tasks import LabelsSpec, Specs, kind_of
from edge_mtl.tasks.depth import DepthSpec

__all__ = ["Sample", "labelled_samples", "photograph", "suits_photograph"]

_BLACK = 24
"""Bars are black, but not quite once a JPEG encoder has seen them."""

# Middlebury 2014 stereo benchmark, "Motorcycle" at a quarter of its size: calibration from the documentation of
# skimage.data.stereo_motorcycle. Depth is focal length x baseline / (disparity + offset).
_PHOTOGRAPH, _DISPARITY = "motorcycle_left.png", "motorcycle_disp.npz"
_FOCAL_PX, _CENTRE_PX, _OFFSET_PX, _BASELINE_M = 994.978, (311.193, 254.877), 31.086, 0.193001


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A frame (H, W, 3) uint8 RGB with its camera (fx, fy, cx, cy) and what is known about it, by task, as its kind reads
    truth."""

    title: str
    pixels: NDArray[np.uint8]
    intrinsics: tuple[float, float, float, float] | None
    truths: Mapping[str, Any]


def labelled_samples(bundle: Bundle, count: int) -> list[Sample]:
    """The `count` labelled frames of `bundle` with the most classes in them, in their order.

    Raises:
        BundleError: a file is altered or not what it should be.
    """
    every = [_whole(f"frame {index}", item, bundle.manifest.tasks) for index, item in enumerate(evaluation_frames(bundle))]
    labels = [name for name, spec in bundle.manifest.tasks.items() if isinstance(spec, LabelsSpec)]
    richest = sorted(range(len(every)), key=lambda index: (-_richness(every[index].truths, labels), index))[:count]
    return [every[index] for index in sorted(richest)]


def suits_photograph(tasks: Specs) -> bool:
    """Whether a garage is anything like what a bundle was made for: not where its depth is that of streets."""
    return not any(isinstance(spec, DepthSpec) and spec.outdoors for spec in tasks.values())


def photograph(tasks: Specs) -> Sample | None:
    """The garage photograph in scikit-image's package data; None where it does not suit, or is not installed."""
    if not suits_photograph(tasks):
        return None
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "data"
    try:
        pixels = read_image(folder / _PHOTOGRAPH)
    except FrameError:
        return None
    return Sample(
        "photograph",
        pixels,
        (_FOCAL_PX, _FOCAL_PX, *_CENTRE_PX),
        {name: _stereo_depth(folder / _DISPARITY, pixels.shape[:2]) for name, spec in tasks.items() if spec.kind == "depth"},
    )


def _stereo_depth(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            disparity = np.asarray(arrays["arr_0"], np.float32)
    except (OSError, ValueError, KeyError):
        return None
    depth = _FOCAL_PX * _BASELINE_M / (disparity + _OFFSET_PX)
    return np.where(np.isfinite(disparity), depth, np.nan).astype(np.float32) if disparity.shape == shape else None


def _whole(title: str, item: LabelledFrame, tasks: Specs) -> Sample:
    """A labelled frame without the bars that letterboxing put around it."""
    content = item.frame.max(axis=2) > _BLACK
    rows, columns = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    if rows.size == 0:
        rows, columns = np.arange(content.shape[0]), np.arange(content.shape[1])
    inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    camera = item.intrinsics
    if camera is not None:
        camera = camera[0], camera[1], camera[2] - columns[0], camera[3] - rows[0]
    targets = {task: kind_of(tasks[task]).crop_truth(tasks[task], target, inside) for task, target in item.targets.items()}
    return Sample(title, np.ascontiguousarray(item.frame[inside]), camera, targets)


def _richness(truths: Mapping[str, Any], labels: Sequence[str]) -> int:
    """Number of classes that cover at least 1 % of the frame."""
    found = 0
    for name in labels:
        if name in truths:
            counts = np.bincount(truths[name].ravel(), minlength=256)[:255]
            found += int((counts >= 0.01 * truths[name].size).sum())
    return found
