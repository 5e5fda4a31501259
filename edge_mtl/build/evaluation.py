"""The labelled frames of a bundle, and what several graphs score on them. Knows files and metrics; opens no runtime.

Targets are those of the true camera: predictions are converted with each frame's intrinsics before they are compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from edge_mtl.build.calibration import PICTURE_SUFFIXES, decode_picture
from edge_mtl.build.frame_path import FramePath
from edge_mtl.bundle import EVALUATION, Bundle
from edge_mtl.errors import BundleError
from edge_mtl.metrics import MultiTaskMetrics, agreement
from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION

__all__ = ["Score", "evaluate", "evaluation_frames"]

Array = np.ndarray

_DEPTH_UNIT_M = 1.0 / 5000.0
_INTRINSICS = f"{EVALUATION}/intrinsics.json"
_TARGET_ENDINGS = (".label.png", ".depth.png", ".normals.png")


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """A frame and what is true of it.

    Attributes:
        frame: (H, W, 3) uint8 RGB, network size.
        intrinsics: (fx, fy, cx, cy) of the frame; None where unknown.
        targets: segmentation (H, W) uint8, depth (H, W) float32 metres with 0 invalid, normals (H, W, 3) float32 with
            zeros invalid; only what the bundle has.
    """

    frame: Array
    intrinsics: tuple[float, float, float, float] | None
    targets: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Score:
    """What one graph scored: metrics by name (see `edge_mtl.metrics`) and agreement with the reference graph by name."""

    accuracy: Mapping[str, float]
    agreement: Mapping[str, float]


def evaluation_frames(bundle: Bundle) -> Iterator[LabelledFrame]:
    """The labelled frames of `bundle`, one after the other.

    Raises:
        BundleError: a file was altered or cannot be decoded.
    """
    cameras = _cameras(bundle)
    for name in bundle.list(EVALUATION, suffixes=PICTURE_SUFFIXES):
        if name.endswith(_TARGET_ENDINGS):
            continue
        stem = name.rpartition(".")[0]
        frame = decode_picture(bundle.read(name))
        if frame is None:
            raise BundleError(f"{bundle.path / name} is no picture. Export the bundle again.")
        targets: dict[str, Array] = {}
        if (label := _target(bundle, f"{stem}.label.png")) is not None:
            targets[SEGMENTATION] = label
        if (depth := _target(bundle, f"{stem}.depth.png")) is not None:
            targets[DEPTH] = depth.astype(np.float32) * np.float32(_DEPTH_UNIT_M)
        if (normals := _target(bundle, f"{stem}.normals.png")) is not None:
            known = normals.any(axis=2, keepdims=True)
            targets[NORMALS] = np.where(known, (normals[..., ::-1].astype(np.float32) - 128.0) / 127.0, 0.0)
        yield LabelledFrame(frame, cameras.get(stem.rpartition("/")[2]), targets)


def evaluate(
    bundle: Bundle,
    paths: Mapping[str, FramePath],
    *,
    reference: str,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Score]:
    """Score every graph in `paths` on the labelled frames; `reference` names the one that agreement refers to.

    Returns:
        One score per name; empty mappings where the bundle has no labelled frames. Metrics without a valid pixel are
        left out.
    """
    tasks = bundle.tasks
    metrics = {name: MultiTaskMetrics(tasks) for name in paths}
    agreements: dict[str, list[dict[str, float]]] = {name: [] for name in paths}
    total = sum(not name.endswith(_TARGET_ENDINGS) for name in bundle.list(EVALUATION, suffixes=PICTURE_SUFFIXES))
    for number, item in enumerate(evaluation_frames(bundle)):
        maps = {name: path(item.frame, item.intrinsics) for name, path in paths.items()}
        for name, found in maps.items():
            predicted = {SEGMENTATION: found.segmentation, DEPTH: found.depth, NORMALS: found.normals}
            metrics[name].update(predicted, item.targets)
            agreements[name].append(agreement(found, maps[reference]).as_dict())
        if progress is not None:
            progress("evaluate", number + 1, total)
    return {name: Score(_finite(metrics[name].compute()), _means(agreements[name])) for name in paths}


def _cameras(bundle: Bundle) -> dict[str, tuple[float, float, float, float]]:
    if not bundle.has(_INTRINSICS):
        return {}
    try:
        content = json.loads(bundle.read(_INTRINSICS))
        return {str(name): (float(fx), float(fy), float(cx), float(cy)) for name, (fx, fy, cx, cy) in content.items()}
    except (ValueError, TypeError, AttributeError) as exc:
        raise BundleError(
            f"{bundle.path / _INTRINSICS} should map names to fx, fy, cx, cy ({exc}). Export the bundle again."
        ) from exc


def _target(bundle: Bundle, name: str) -> Array | None:
    if not bundle.has(name):
        return None
    array = cv2.imdecode(np.frombuffer(bundle.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise BundleError(f"{bundle.path / name} is no picture. Export the bundle again.")
    return array


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _means(entries: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for entry in entries for name in entry)
    return _finite({name: float(np.nanmean([entry[name] for entry in entries if name in entry])) for name in names})
