"""Images to look at: a frame and its pseudo-labels, as training will read them from their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.image.encoding import encode_image
from edge_mtl.image.panel import column, legend, panel
from edge_mtl.tasks import Result, kind_of
from edge_mtl.tasks.drawing import legend_entries, title
from mtl.datasets.folder.index import files_below
from mtl.datasets.folder.reading import PHOTO_SUFFIXES, read_photo
from mtl.pseudo_labels.labelling import Labelled

__all__ = ["write_previews"]


def write_previews(labelled: Labelled, out: Path, *, count: int) -> list[Path]:
    """Write `count` images to `out`, of frames spread over those that have pseudo-labels; the paths.

    Each has the frame, and for every task what was kept with its share of the pixels; what is unknown is black, or the plain
    frame under labels.

    Raises:
        BuildError: a file cannot be read or written.
    """
    stems = sorted({stem for task in labelled.tasks for stem in labelled.stems(task)})
    chosen = stems if len(stems) <= count else [stems[round(i * (len(stems) - 1) / max(count - 1, 1))] for i in range(count)]
    photos, _ = files_below(labelled.description.root / labelled.description.images, PHOTO_SUFFIXES)
    written = []
    for stem in chosen:
        path = out / f"{stem}.png"
        try:
            write_atomic(path, encode_image(_preview(labelled, stem, photos[stem])))
        except OSError as exc:
            raise BuildError(f"{path} cannot be written ({exc.strerror or exc}). Choose another folder: --out DIR") from exc
        written.append(path)
    return written


def _preview(labelled: Labelled, stem: str, photo: Path) -> np.ndarray:
    """(h, w, 3) uint8 RGB."""
    image, description = read_photo(photo), labelled.description
    results: dict[str, Result] = {}
    tiles = []
    for task in labelled.tasks:
        entry = labelled.records.entry(task, stem)
        if entry is None or stem not in labelled.stems(task):
            continue
        spec, files, path = description.tasks[task], description.files[task], description.root / entry.file
        result = kind_of(spec).of_truth(spec, files.truth(files.stored(path), path))
        if result is None:
            continue
        results[task] = result
        tiles.append((f"{title(result)}: {100 * entry.kept:.0f} % kept", kind_of(spec).draw(spec, image, result)))
    drawn = panel(image, tiles, title=stem)
    entries = legend_entries(results)
    return column([drawn, legend(entries, drawn.shape[1])], gap=0) if entries else drawn
