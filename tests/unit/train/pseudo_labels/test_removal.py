"""Pseudo-labels are deleted, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from mtl.pseudo_labels.records import RECORDS, Records
from mtl.pseudo_labels.removal import remove_labels

from edge_mtl.errors import BuildError
from tests.unit.train.pseudo_labels.test_records import RUN, entry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pseudo-labels of two tasks, one changed since, one lost; and a label that a person made."""
    records = Records.open(tmp_path)
    key = records.add_run(RUN)
    for task, stem, file in (
        ("lane", "a", "masks/a.png"),
        ("lane", "b", "masks/x/b.png"),
        ("lane", "c", "masks/c.png"),
        ("depth", "a", "depth/a.png"),
    ):
        records.write(task, stem, entry(key, file=file), b"label")
    records.save()
    (tmp_path / "masks/a.png").write_bytes(b"mended by hand")
    (tmp_path / "masks/c.png").unlink()
    (tmp_path / "masks/h.png").write_bytes(b"label")
    (tmp_path / "dataset.toml").write_text("")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    }


def test_exactly_the_recorded_files_go_that_have_not_changed(folder: Path) -> None:
    removed = remove_labels(folder)
    assert removed.deleted == {"lane": 1, "depth": 1}
    assert removed.changed == (folder / "masks/a.png",)
    assert files(folder) == {"masks/a.png", "masks/h.png", "dataset.toml", RECORDS}
    assert Records.open(folder).entries == {"lane": {"a": entry(RUN.key)}}


def test_of_one_task_only(folder: Path) -> None:
    assert remove_labels(folder, ["depth"]).deleted == {"depth": 1}
    assert {"masks/x/b.png", RECORDS} <= files(folder)
    remove_labels(folder, ["lane"])
    (folder / "masks/a.png").write_bytes(b"label")
    remove_labels(folder, ["lane"])
    assert files(folder) == {"masks/h.png", "dataset.toml"}


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no pseudo-labels of normals; it has those of depth, lane"):
        remove_labels(folder, ["normals"])
    with pytest.raises(BuildError, match="is not a folder"):
        remove_labels(tmp_path / "absent")
    (tmp_path / "plain").mkdir()
    with pytest.raises(BuildError, match="has no pseudo-labels of any task"):
        remove_labels(tmp_path / "plain")
