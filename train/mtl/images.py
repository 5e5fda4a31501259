"""Sheets of predictions beside their truth, for looking at while a run continues."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mtl.files import write_atomic
from edge_mtl.tasks import Result, TaskSpec
from mtl.evaluate import Judged
from mtl.tasks import head_of

__all__ = ["paint", "prediction_sheet", "write_sheet"]

_GAP_PX = 4


def prediction_sheet(judged: Sequence[Judged]) -> np.ndarray:
    """One row a frame: the image, then of each task the truth and the prediction; (H, W, 3) uint8 RGB."""
    rows = [np.concatenate(_padded(_cells(one)), axis=1) for one in judged]
    return np.concatenate(_padded(rows, axis=0), axis=0)


def write_sheet(path: Path, sheet: np.ndarray) -> None:
    """Write a sheet as PNG, atomically."""
    fine, payload = cv2.imencode(".png", sheet[..., ::-1])
    if not fine:
        raise OSError(f"{path} could not be encoded")
    write_atomic(path, payload.tobytes())


def paint(spec: TaskSpec, image: np.ndarray, found: Any) -> np.ndarray:
    """A truth, or a result, of one task as an image (H, W, 3) uint8; black where there is none."""
    if found is None:
        return np.zeros_like(image)
    head = head_of(spec)
    return head.paint(spec, image, head.as_truth(found) if isinstance(found, Result) else found)


def _cells(judged: Judged) -> list[np.ndarray]:
    cells = [judged.image]
    for task, result in judged.predicted.items():
        cells += [paint(result.spec, judged.image, one) for one in (judged.truths.get(task), result)]
    return cells


def _padded(parts: Sequence[np.ndarray], *, axis: int = 1) -> list[np.ndarray]:
    margins = [(0, 0), (0, 0), (0, 0)]
    margins[axis] = (0, _GAP_PX)
    return [np.pad(part, margins, constant_values=255) for part in parts]
