"""Frames with their labels drawn beside them, on one sheet: swapped classes and shifted masks are seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_mtl.errors import EdgeMtlError
from edge_mtl.image.encoding import encode_image
from edge_mtl.image.lettering import put_text, text_width
from edge_mtl.image.panel import BACKGROUND, FAINT, GAP, INK, column, fit, legend, row
from edge_mtl.tasks import LabelsSpec, TaskSpec, kind_of
from mtl.datasets.folder.index import FolderIndex, folder_index
from mtl.datasets.folder.source import read_frame
from mtl.datasets.folder.splits import SPLITS
from mtl.datasets.frame import Frame
from mtl.tasks import head_of

__all__ = ["chosen_frames", "contact_sheet", "contact_sheet_png"]

Array = np.ndarray

_TILE_PX = 240
_WIDTH_PX = 2000
_CAPTION_PX = 24
_STRIPE_PX = 6
_VOID: tuple[int, int, int] = (255, 0, 255)
_DARK: tuple[int, int, int] = (40, 0, 40)


def contact_sheet_png(root: Path, *, frames: int) -> bytes:
    """A sheet of about `frames` frames of a folder, as PNG. Raises BuildError: the folder cannot be used."""
    index = folder_index(root)
    return encode_image(contact_sheet(index, chosen_frames(index, frames)))


def chosen_frames(index: FolderIndex, count: int) -> list[str]:
    """Labelled frames, evenly spaced over all splits; those with more kinds of labels first where there are too many."""
    stems = [stem for stem in index.photos if index.known(stem)] or list(index.photos)
    most = max(len(index.known(stem)) for stem in stems)
    full = [stem for stem in stems if len(index.known(stem)) == most]
    pool = full if len(full) >= count else stems
    places = np.unique(np.linspace(0, len(pool) - 1, min(count, len(pool))).round().astype(int))
    return [pool[place] for place in places]


def contact_sheet(index: FolderIndex, stems: Sequence[str]) -> Array:
    """(H, W, 3) uint8 RGB: a cell a frame with its image and each label, its name below, and the classes at the end.

    Drawings are those of the kinds. Pixels without a label are striped; a label that is not there, or whose file cannot be
    used, says so.
    """
    specs = index.description.tasks
    split = {stem: one for one in SPLITS for stem in index.assigned.stems[one]}
    cells = [_cell(index, stem, split.get(stem, "no split")) for stem in stems]
    width = max(cell.shape[1] for cell in cells)
    side = max(1, (max(_WIDTH_PX, width) + 3 * GAP) // (width + 3 * GAP))
    rows = [row(cells[start : start + side], gap=3 * GAP) for start in range(0, len(cells), side)]
    total = max(one.shape[1] for one in rows)
    legends = [part for spec in specs.values() if isinstance(spec, LabelsSpec) for part in _legend(spec, total)]
    sheet = column([*rows, *legends])
    framed = np.empty((sheet.shape[0] + 2 * GAP, sheet.shape[1] + 2 * GAP, 3), np.uint8)
    framed[:] = BACKGROUND
    framed[GAP:-GAP, GAP:-GAP] = sheet
    return framed


def _cell(index: FolderIndex, stem: str, split: str) -> Array:
    """One frame: tiles side by side, a line of text below."""
    specs = index.description.tasks
    try:
        frame = read_frame(index, stem)
    except EdgeMtlError:
        tiles = [_says(_TILE_PX * 3 // 4, "cannot be used")] * (1 + len(specs))
    else:
        tiles = [fit(frame.image, _TILE_PX), *(_tile(spec, frame) for spec in specs.values())]
    strip = row(tiles, gap=4)
    caption = np.full((_CAPTION_PX, strip.shape[1], 3), BACKGROUND, np.uint8)
    put_text(caption, stem, (0, 17), size=15, colour=INK)
    names = f"{split}: image, {', '.join(specs)}"
    left = strip.shape[1] - text_width(names, size=13)
    if left > text_width(stem, size=15) + GAP:
        put_text(caption, names, (left, 17), size=13, colour=FAINT)
    return np.vstack([strip, caption])


def _tile(spec: TaskSpec, frame: Frame) -> Array:
    """A label as its kind draws it, unknown pixels striped; drawn at the size of the tile, so that words stay readable."""
    height = max(1, round(frame.size[0] * _TILE_PX / frame.size[1]))
    if spec.name not in frame.truths:
        return _says(height, f"no {spec.name}")
    rows = (np.arange(height) + 0.5) * frame.size[0] / height
    columns = (np.arange(_TILE_PX) + 0.5) * frame.size[1] / _TILE_PX
    truth = frame.truths[spec.name][np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
    kind, image = kind_of(spec), fit(frame.image, _TILE_PX, height)
    return _striped(kind.draw(spec, image, kind.of_truth(spec, truth)), _unknown(spec, truth))


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
