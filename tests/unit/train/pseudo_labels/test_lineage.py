"""Provenance counts the pseudo-labels that are in use, and those that accuracy would be measured on."""

from __future__ import annotations

from pathlib import Path

import pytest
from mtl.datasets.folder.index import folder_index
from mtl.datasets.folder.source import Folder
from mtl.pseudo_labels.lineage import lineage
from mtl.pseudo_labels.records import Entry, Records
from mtl.settings import DataSettings

from edge_mtl.files import sha256_bytes
from tests.own_folder import write_own_folder
from tests.unit.train.pseudo_labels.test_records import RUN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Labels of people, of which four frames' depth are recorded as pseudo-labels: one changed, one without its image."""
    root = write_own_folder(tmp_path, frames=10, replace={"val = 0.2\ntest = 0.2": 'train = "a.txt"\nval = "b.txt"'})
    stems = [f"run{number // 8}/{number:04d}" for number in range(10)]
    (root / "a.txt").write_text("\n".join(stems[:4]))
    (root / "b.txt").write_text("\n".join(stems[4:]))
    records = Records.open(root)
    key = records.add_run(RUN)
    for number in (0, 2, 4, 6):
        file = f"depth/{stems[number]}.png"
        payload = (root / file).read_bytes()
        records.write("depth", stems[number], Entry(key, file, 1.0, sha256_bytes(payload), "5" * 64), payload)
    records.save()
    (root / f"depth/{stems[2]}.png").write_bytes(b"mended by hand")
    (root / f"images/{stems[6]}.png").unlink()
    (root / "b.txt").write_text("\n".join(stem for stem in stems[4:] if stem != stems[6]))
    return root


def test_labels_in_use_are_counted_by_task_and_split(folder: Path) -> None:
    expected = {"bundles": ["rooms (dddddddddddd)"], "frames": {"depth": 2}, "held_out": {"depth": 1}}
    assert lineage(folder_index(folder)) == expected
    assert Folder().pseudo_labels(DataSettings(kind="folder", root=str(folder))) == expected


def test_a_folder_that_people_labelled_says_nothing(tmp_path: Path) -> None:
    assert lineage(folder_index(write_own_folder(tmp_path, frames=10))) == {}
