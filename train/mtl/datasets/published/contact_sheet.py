"""Frames of a published data set with their truths drawn beside them, on one sheet."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edge_mtl.errors import EdgeMtlError
from edge_mtl.image.encoding import encode_image
from edge_mtl.tasks import Specs
from mtl.datasets.published.check import listings
from mtl.datasets.published.data_set import PublishedSet
from mtl.datasets.published.frames import read_listed, spread
from mtl.datasets.published.index_cache import shown_name
from mtl.datasets.truth_tiles import frame_cell, sheet_of

__all__ = ["contact_sheet_png"]


def contact_sheet_png(known: PublishedSet, root: Path, *, frames: int) -> bytes:
    """About `frames` frames, evenly spaced over each split, as PNG. Raises BuildError where the folder cannot be used."""
    cells: list[np.ndarray] = []
    specs: Specs = {}
    found = listings(known, root)
    for split, listing in found.items():
        specs = listing.specs
        for number in spread(len(listing), max(1, frames // len(found))):
            try:
                frame = read_listed(listing, number)
            except EdgeMtlError:
                frame = None
            name = shown_name(os.path.splitext(listing.image(number).name)[0])
            cells.append(frame_cell(frame, specs, name, split))
    return encode_image(sheet_of(cells, specs.values()))
