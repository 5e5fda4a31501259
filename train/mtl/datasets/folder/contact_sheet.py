"""Frames with their labels drawn beside them, on one sheet: swapped classes and shifted masks are seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_mtl.errors import EdgeMtlError
from edge_mtl.image.encoding import encode_image
from mtl.datasets.folder.index import FolderIndex, folder_index
from mtl.datasets.folder.source import read_frame
from mtl.datasets.folder.splits import SPLITS
from mtl.datasets.frame import Frame
from mtl.datasets.truth_tiles import frame_cell, sheet_of

__all__ = ["chosen_frames", "contact_sheet", "contact_sheet_png"]

Array = np.ndarray


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
    cells = [frame_cell(_readable(index, stem), specs, stem, split.get(stem, "no split")) for stem in stems]
    return sheet_of(cells, specs.values())


def _readable(index: FolderIndex, stem: str) -> Frame | None:
    """A frame; None where its files cannot be used."""
    try:
        return read_frame(index, stem)
    except EdgeMtlError:
        return None
