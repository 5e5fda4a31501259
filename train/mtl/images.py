"""Sheets of predictions beside their truth, for looking at while a run goes on. Knows nothing about training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_mtl.files import write_atomic
from edge_mtl.tasks import DEPTH, NORMALS, NYU13_PALETTE, SEGMENTATION, VOID
from mtl.evaluate import Judged

__all__ = ["paint", "prediction_sheet", "write_sheet"]

_DEEPEST_M = 8.0
_GAP_PX = 4


def prediction_sheet(judged: Sequence[Judged]) -> np.ndarray:
    """One row a frame: image, labels (true, predicted), depth (true, predicted), normals (true, predicted); RGB uint8."""
    rows = [np.concatenate(_padded(_cells(one)), axis=1) for one in judged]
    return np.concatenate(_padded(rows, axis=0), axis=0)


def write_sheet(path: Path, sheet: np.ndarray) -> None:
    """Write a sheet as PNG, atomically."""
    fine, payload = cv2.imencode(".png", sheet[..., ::-1])
    if not fine:
        raise OSError(f"{path} could not be encoded")
    write_atomic(path, payload.tobytes())


def paint(task: str, values: np.ndarray) -> np.ndarray:
    """A map of a task as an image (H, W, 3) uint8: class colours; red near to blue far; normals; black where unknown."""
    return _PAINTERS[task](values)


def _cells(judged: Judged) -> list[np.ndarray]:
    cells = [judged.image]
    for task in _PAINTERS:
        if task in judged.predicted:
            cells += [paint(task, judged.truth[task]), paint(task, judged.predicted[task])]
    return cells


def _paint_labels(label: np.ndarray) -> np.ndarray:
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(NYU13_PALETTE)] = NYU13_PALETTE
    colours[VOID] = 0
    return colours[label]


def _paint_depth(depth_m: np.ndarray) -> np.ndarray:
    near = 1.0 - np.clip(depth_m / _DEEPEST_M, 0.0, 1.0)
    colours = cv2.applyColorMap((near * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where((depth_m > 0)[..., None], colours, np.uint8(0))


def _paint_normals(normals: np.ndarray) -> np.ndarray:
    known = (normals * normals).sum(axis=-1, keepdims=True) > 0.25
    facing = normals * np.array([1, -1, -1], np.float32)
    return np.where(known, ((facing + 1) * 127.5).clip(0, 255), 0).astype(np.uint8)


_PAINTERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    SEGMENTATION: _paint_labels,
    DEPTH: _paint_depth,
    NORMALS: _paint_normals,
}


def _padded(parts: Sequence[np.ndarray], *, axis: int = 1) -> list[np.ndarray]:
    margins = [(0, 0), (0, 0), (0, 0)]
    margins[axis] = (0, _GAP_PX)
    return [np.pad(part, margins, constant_values=255) for part in parts]
