"""Objects beside labelled frames: `STEM.<task>.json`, and where they lie once their frame was letterboxed.

{"boxes": [{"class": "chair", "xyxy": [left, top, right, bottom], "crowd": false}, ...]}: edges in pixels of the frame, whose
centres are at whole numbers; "crowd" may be left out, and other keys, such as "score", are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_mtl.errors import BundleError
from edge_mtl.image.frames import Letterbox
from edge_mtl.numbers import is_number
from edge_mtl.tasks.box_objects import BoxTruth
from edge_mtl.tasks.class_names import short
from edge_mtl.tasks.kind import TruthFiles
from edge_mtl.tasks.truth import EXPORT_AGAIN, read_json

__all__ = ["crop_boxes", "edges", "encode_boxes", "fit_boxes", "read_boxes"]

Array = np.ndarray

_BEYOND_PX = 1.0
"""What a box may reach beyond its frame, as tools round differently; it is cut off."""
_SHARE = 1.5
"""Where no coordinate of several boxes is larger, they are shares of the frame, not pixels."""


def read_boxes(name: str, classes: Sequence[str], size: tuple[int, int], files: TruthFiles) -> BoxTruth | None:
    """The objects of a frame of `size` (height, width); None where there is no file `name`.

    Raises:
        BundleError: it was altered, is not such JSON, names another class, or a box is empty or not within the frame.
    """
    content = read_json(name, files)
    if content is None:
        return None
    where, entries = files.where(name), content.get("boxes")
    if not isinstance(entries, list):
        raise BundleError(f'{where} should have a list of "boxes"; found {short(entries)}. {EXPORT_AGAIN}')
    indices = {one: index for index, one in enumerate(classes)}
    found = [_entry(entry, f"{where}, box {number}", indices, size) for number, entry in enumerate(entries)]
    boxes = np.array([box for box, _, _ in found], np.float64).reshape(-1, 4)
    if len(boxes) > 1 and boxes.max() <= _SHARE:
        raise BundleError(
            f"{where} should have edges in pixels of a frame of {size[0]}x{size[1]}; found none above {boxes.max():g}. They "
            f"look like shares of the frame: multiply them by its size, and subtract 0.5. {EXPORT_AGAIN}"
        )
    inside = np.clip(boxes, -0.5, np.array([size[1], size[0], size[1], size[0]]) - 0.5).astype(np.float32)
    return BoxTruth(inside, np.array([one for _, one, _ in found], np.int64), np.array([many for *_, many in found], bool))


def encode_boxes(
    boxes: Array, names: Sequence[str], *, crowd: Array | None = None, scores: Array | None = None
) -> list[dict[str, Any]]:
    """Plain values of boxes (N, 4), as truth files have them.

    Args:
        names: of their classes.
        crowd, scores: (N,); left out where there are none.
    """
    found: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        entry: dict[str, Any] = {"class": name}
        if scores is not None:
            entry["score"] = round(float(scores[number]), 4)
        entry["xyxy"] = edges(boxes[number])
        if crowd is not None:
            entry["crowd"] = bool(crowd[number])
        found.append(entry)
    return found


def edges(box: Array) -> list[float]:
    """The four float32 numbers as short decimals that are read as the same numbers."""
    return [float(str(value)) for value in box.astype(np.float32)]


def fit_boxes(truth: BoxTruth, box: Letterbox) -> BoxTruth:
    """Boxes of a frame in pixels of the network's input."""
    scale, corner = np.array([*box.scales[::-1]] * 2), np.array([box.left, box.top] * 2)
    moved = (truth.xyxy.astype(np.float64) + 0.5) * scale + corner - 0.5
    return BoxTruth(moved.astype(np.float32), truth.classes, truth.crowd)


def crop_boxes(truth: BoxTruth, part: tuple[slice, slice]) -> BoxTruth:
    """Boxes of a frame in pixels of a part of it, rows and columns, cut at its edges; without those that lie outside."""
    rows, columns = part
    corner, size = np.array([columns.start, rows.start] * 2), np.array([columns.stop, rows.stop] * 2)
    low, high = corner - 0.5, size - 0.5
    cut = np.clip(truth.xyxy.astype(np.float64), low, high) - corner
    left = (cut[:, 0] < cut[:, 2]) & (cut[:, 1] < cut[:, 3])
    return BoxTruth(cut[left].astype(np.float32), truth.classes[left], truth.crowd[left])


def _entry(entry: Any, where: str, classes: dict[str, int], size: tuple[int, int]) -> tuple[list[float], int, bool]:
    if not isinstance(entry, dict):
        raise BundleError(f'{where} should be an object, {{"class": ..., "xyxy": ...}}; found {short(entry)}. {EXPORT_AGAIN}')
    name, box, crowd = entry.get("class"), entry.get("xyxy"), entry.get("crowd", False)
    if not isinstance(name, str) or name not in classes:
        known = f"{', '.join(list(classes)[:12])}{', ...' if len(classes) > 12 else ''}"
        raise BundleError(f"{where} should be of a class of the task, {known}; found {short(name)}. {EXPORT_AGAIN}")
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in box):
        raise BundleError(f"{where} should have four numbers as xyxy; found {short(box)}. {EXPORT_AGAIN}")
    if not isinstance(crowd, bool):
        raise BundleError(f"{where} should be a crowd, true or false; found {short(crowd)}. {EXPORT_AGAIN}")
    left, top, right, bottom = map(float, box)
    if not (left < right and top < bottom):
        turned = " Are these left, top, width and height?" if right > 0 and bottom > 0 else ""
        raise BundleError(
            f"{where} should have left, top, right and bottom edges, left < right and top < bottom; found {box}.{turned} "
            f"{EXPORT_AGAIN}"
        )
    height, width = size
    most = width - 0.5 + _BEYOND_PX, height - 0.5 + _BEYOND_PX
    if min(left, top) < -0.5 - _BEYOND_PX or right > most[0] or bottom > most[1]:
        raise BundleError(f"{where} should lie within its frame of {height}x{width}; found {box}. {EXPORT_AGAIN}")
    return [left, top, right, bottom], classes[name], crowd
