"""Cityscapes as LibMTL has it: seven classes, depth that is no metres, and folders that are something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mtl.datasets.cityscapes import CATEGORIES, Cityscapes
from mtl.datasets.frame import truth_notes
from mtl.datasets.sources import data_set, held_out_frames, train_frames
from mtl.settings import DataSettings, Stage

from edge_mtl.errors import BuildError
from tests.bdd_files import write_cityscapes
from tests.nyu_files import write_folder

STAGE = Stage(height=32, width=32, steps=1)


def settings(root: Path, **changes: Any) -> DataSettings:
    return DataSettings(kind="cityscapes", root=str(root), **changes)


def test_frames_have_seven_classes_and_depth_up_to_a_scale(tmp_path: Path) -> None:
    data = settings(write_cityscapes(tmp_path))
    frames = train_frames(data, STAGE).open()
    assert len(frames) == 3
    assert frames.tasks["segmentation"].classes == CATEGORIES  # type: ignore[attr-defined]
    frame = frames[2]
    assert frame.image.dtype == np.uint8
    assert frame.truths["segmentation"][:8, 0].tolist() == [255, 0, 1, 2, 3, 4, 5, 6]
    assert (frame.truths["relative_depth"].dtype, frame.truths["relative_depth"].shape) == (np.float32, (32, 64))
    stored = np.load(tmp_path / "train" / "depth" / "2.npy")[..., 0]
    near = stored >= 1 / 80
    np.testing.assert_allclose(frame.truths["relative_depth"][near], 1 / stored[near], rtol=1e-6)
    assert not frame.truths["relative_depth"][~near].any(), "unknown where there is no disparity, or hardly any"
    assert "no stated unit" in truth_notes(frames)["relative_depth"].made
    assert data_set(data).counts(data) == "3 training, 2 validation, 2 test (the same)"
    assert not data_set(data).redistributable(data)
    assert "non-commercial" in data_set(data).licence(data)


def test_notes_follow_another_name_of_their_task(tmp_path: Path) -> None:
    frames = held_out_frames(settings(write_cityscapes(tmp_path), task_names={"relative_depth": "distance"}), "val").open()
    assert set(truth_notes(frames)) == {"distance"}


def test_it_is_told_from_nyuv2(tmp_path: Path) -> None:
    assert Cityscapes().holds(write_cityscapes(tmp_path / "a"))
    assert not Cityscapes().holds(write_folder(tmp_path / "b"))
    assert not Cityscapes().holds(tmp_path)


@pytest.mark.parametrize(
    ("modality", "array", "words"),
    [
        ("depth", np.full((32, 64, 1), 12.5), "expected inverse depth from 0 to 1"),
        ("depth", np.full((32, 60, 1), 0.1), "expected 32 x 64"),
        ("label", np.full((32, 64), 7), "0 to 6"),
        ("image", np.full((32, 64, 3), 300.0), "should lie within 0 to 1"),
    ],
)
def test_arrays_that_are_something_else_are_named(modality: str, array: np.ndarray, words: str, tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path)
    path = root / "train" / modality / "0.npy"
    np.save(path, array)
    with pytest.raises(BuildError, match=words) as caught:
        train_frames(settings(root), STAGE).open()[0]
    assert str(path) in str(caught.value)


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="has no Cityscapes in LibMTL's layout"):
        train_frames(settings(tmp_path), STAGE).open()
    root = write_cityscapes(tmp_path)
    (root / "train" / "depth" / "1.npy").unlink()
    with pytest.raises(BuildError, match=r"depth/1\.npy is missing"):
        train_frames(settings(root), STAGE).open()
    (root / "train" / "image" / "0.npy").write_bytes(b"no array")
    assert not Cityscapes().holds(root)
