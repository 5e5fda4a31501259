"""Frames with their truths drawn beside them, as cells of one sheet. Drawings are those of the kinds; knows no files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.image.lettering import put_text, text_width
from edge_mtl.image.panel import BACKGROUND, FAINT, GAP, INK, column, fit, legend, row
from edge_mtl.tasks import LabelsSpec, Specs, TaskSpec, kind_of
from edge_mtl.tasks.boxes import BoxTruth
from mtl.datasets.frame import Frame
from mtl.tasks import head_of

__all__ = ["frame_cell", "sheet_of"]

Array = np.ndarray

_TILE_PX = 240
_WIDTH_PX = 2000
_CAPTION_PX = 24
_STRIPE_PX = 6
_VOID: tuple[int, int, int] = (255, 0, 255)
_DARK: tuple[int, int, int] = (40, 0, 40)


def frame_cell(frame: Frame | None, specs: Specs, name: str, split: str) -> Array:
    """(H, W, 3) uint8 RGB: the image and each truth side by side, a line of text below.

    Args:
        frame: None where its files cannot be used, which the cell says.
    """
    if frame is None:
        tiles = [_says(_TILE_PX * 3 // 4, "cannot be used")] * (1 + len(specs))
    else:
        tiles = [fit(frame.image, _TILE_PX), *(_tile(spec, frame) for spec in specs.values())]
    strip = row(tiles, gap=4)
    caption = np.full((_CAPTION_PX, strip.shape[1], 3), BACKGROUND, np.uint8)
    put_text(caption, name, (0, 17), size=15, colour=INK)
    names = f"{split}: image, {', '.join(specs)}"
    left = strip.shape[1] - text_width(names, size=13)
    if left > text_width(name, size=15) + GAP:
        put_text(caption, names, (left, 17), size=13, colour=FAINT)
    return np.vstack([strip, caption])


def sheet_of(cells: Sequence[Array], specs: Iterable[TaskSpec]) -> Array:
    """(H, W, 3) uint8 RGB: the cells in rows, and the classes of labels in their colours at the end.

    Raises:
        BuildError: there is no cell.
    """
    if not cells:
        raise BuildError("there is no frame to draw on the sheet: run train/validate_dataset.py without --sheet")
    width = max(cell.shape[1] for cell in cells)
    side = max(1, (max(_WIDTH_PX, width) + 3 * GAP) // (width + 3 * GAP))
    rows = [row(cells[start : start + side], gap=3 * GAP) for start in range(0, len(cells), side)]
    total = max(one.shape[1] for one in rows)
    legends = [part for spec in specs if isinstance(spec, LabelsSpec) for part in _legend(spec, total)]
    sheet = column([*rows, *legends])
    framed = np.empty((sheet.shape[0] + 2 * GAP, sheet.shape[1] + 2 * GAP, 3), np.uint8)
    framed[:] = BACKGROUND
    framed[GAP:-GAP, GAP:-GAP] = sheet
    return framed


def _tile(spec: TaskSpec, frame: Frame) -> Array:
    """A truth as its kind draws it, at the size of the tile, so that words stay readable; unknown pixels of maps striped."""
    height = max(1, round(frame.size[0] * _TILE_PX / frame.size[1]))
    if spec.name not in frame.truths:
        return _says(height, f"no {spec.name}")
    truth = _reduced(frame.truths[spec.name], frame.size, (height, _TILE_PX))
    kind, image = kind_of(spec), fit(frame.image, _TILE_PX, height)
    drawn = kind.draw(spec, image, kind.of_truth(spec, truth))
    return _striped(drawn, _unknown(spec, truth)) if isinstance(truth, np.ndarray) else drawn


def _reduced(truth: Any, size: tuple[int, int], wanted: tuple[int, int]) -> Any:
    """A truth of an image of `size` (H, W) for that image at `wanted`."""
    down, right = wanted[0] / size[0], wanted[1] / size[1]
    if isinstance(truth, BoxTruth):
        scale = np.array([right, down, right, down])
        return replace(truth, xyxy=((truth.xyxy + 0.5) * scale - 0.5).astype(np.float32))
    if not isinstance(truth, np.ndarray):
        return truth
    rows, columns = (np.arange(wanted[0]) + 0.5) / down, (np.arange(wanted[1]) + 0.5) / right
    return truth[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]


def _unknown(spec: TaskSpec, truth: Array) -> Array:
    """(H, W) bool: pixels without a label."""
    found = np.asarray(truth == getattr(head_of(spec), "unknown", 0))
    return found if found.ndim == 2 else np.asarray(found.all(axis=2))


def _striped(image: Array, unknown: Array) -> Array:
    """Diagonal stripes over unknown pixels."""
    place = np.add.outer(np.arange(image.shape[0]), np.arange(image.shape[1])) // _STRIPE_PX % 2
    stripes = np.where(place[..., None] == 0, np.array(_VOID, np.uint8), np.array(_DARK, np.uint8))
    return np.where(unknown[..., None], stripes, image)


def _says(height: int, text: str) -> Array:
    tile = np.full((height, _TILE_PX, 3), BACKGROUND, np.uint8)
    put_text(tile, text, ((_TILE_PX - text_width(text, size=16)) // 2, height // 2), size=16, colour=FAINT)
    return tile


def _legend(spec: LabelsSpec, width: int) -> list[Array]:
    title = np.full((_CAPTION_PX, width, 3), BACKGROUND, np.uint8)
    put_text(
        title, f"{spec.name}: {len(spec.classes)} classes, striped where there is no label", (0, 17), size=15, colour=FAINT
    )
    colours = [(int(red), int(green), int(blue)) for red, green, blue in spec.palette]
    return [title, legend(zip(spec.classes, colours, strict=True), width)]
