"""The sheet that people look at: which frames, what is drawn, and what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mtl.datasets.folder.contact_sheet import chosen_frames, contact_sheet
from mtl.datasets.folder.index import folder_index
from mtl.datasets.truth_tiles import sheet_of

from edge_mtl.errors import BuildError
from edge_mtl.image.panel import BACKGROUND
from tests.own_folder import CLASSES, write_frame, write_own_folder

VOID_STRIPE = (255, 0, 255)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_own_folder(tmp_path, frames=24)


def share(sheet: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((sheet == np.array(colour, np.uint8)).all(axis=2).mean())


def test_frames_with_all_labels_are_drawn_first(own: Path) -> None:
    index = folder_index(own)
    assert chosen_frames(index, 4) == ["run0/0000", "run0/0006", "run1/0012", "run2/0018"]
    assert len(chosen_frames(index, 5)) == 5
    assert chosen_frames(index, 100) == list(index.photos)


def test_void_is_striped_and_missing_labels_are_empty(own: Path) -> None:
    write_frame(own, "bare", 30, tasks="s")
    index = folder_index(own)
    full, bare = (contact_sheet(index, [stem]) for stem in ("run0/0000", "bare"))
    assert share(full, VOID_STRIPE) > 0.0002
    assert share(bare, BACKGROUND) > share(full, BACKGROUND) + 0.2


def test_swapped_classes_change_the_drawing(own: Path) -> None:
    """Colours of the drawing follow the classes' names, not the palette in the file."""
    index = folder_index(own)
    before = contact_sheet(index, ["run0/0000"])
    text = (own / "dataset.toml").read_text()
    swapped = ", ".join(f'{value} = "{name}"' for value, name in zip([1, 0, *range(2, 20)], CLASSES, strict=True))
    line = next(line for line in text.splitlines() if line.startswith("classes"))
    (own / "dataset.toml").write_text(text.replace(line, f"{line}\nvalues = {{{swapped}}}"))
    after = contact_sheet(folder_index(own), ["run0/0000"])
    assert (before != after).any(axis=2).mean() > 0.03


def test_a_frame_that_cannot_be_read_has_its_place(own: Path) -> None:
    (own / "masks" / "run0" / "0000.png").write_bytes(b"")
    sheet = contact_sheet(folder_index(own), ["run0/0000", "run0/0006"])
    assert share(sheet, BACKGROUND) > 0.3


def test_a_sheet_without_frames_is_refused() -> None:
    with pytest.raises(BuildError, match="no frame to draw"):
        sheet_of([], [])
