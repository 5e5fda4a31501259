"""ADE20K: the challenge's classes and scenes, the full release's coding, and files that are missing or wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mtl.datasets.ade20k.classes import CLASSES, NUMBERS, release_classes, release_numbers
from mtl.datasets.ade20k.full_release import other_numbers
from mtl.datasets.ade20k.source import Ade20k
from mtl.datasets.frame import listed_classes
from mtl.datasets.nyuv2.ade20k import nyu13_of
from mtl.datasets.sources import data_set, data_tasks, held_out_frames, train_frames
from mtl.settings import DataSettings, Stage

from edge_mtl.errors import BuildError
from edge_mtl.image.encoding import encode_image
from edge_mtl.tasks import NYU13_CLASSES
from tests.published_files import SIZE, grey_png, write_ade_challenge, write_ade_full

STAGE = Stage(height=32, width=32, steps=1)


def settings(root: Path, **changes: Any) -> DataSettings:
    return DataSettings(kind="ade20k", root=str(root), **changes)


def test_the_150_classes_are_in_the_benchmarks_order() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 150
    assert [CLASSES[number - 1] for number in (1, 15, 64, 131, 150)] == ["wall", "door", "blind", "screen", "flag"]
    beds = [name for name, one in zip(CLASSES, nyu13_of(150), strict=True) if NYU13_CLASSES[one] == "bed"]
    assert beds == ["bed"], "another table of the same numbers agrees"
    numbers = [number for several in NUMBERS.values() for number in several]
    assert len(numbers) == len(set(numbers)) == 153


def test_masks_lose_one_and_other_is_void_and_scenes_are_those_of_the_list(tmp_path: Path) -> None:
    data = settings(write_ade_challenge(tmp_path))
    frames = train_frames(data, STAGE).open()
    assert {task: (spec.kind, len(spec.classes)) for task, spec in frames.tasks.items()} == {  # type: ignore[attr-defined]
        "segmentation": ("labels", 150),
        "scene": ("class", 3),
    }
    frame = frames[1]
    assert frame.truths["segmentation"].shape == SIZE
    assert frame.truths["segmentation"][0, [0, 20, 63]].tolist() == [255, 2, 149]
    assert frames.tasks["scene"].classes[frame.truths["scene"]] == "kitchen"  # type: ignore[attr-defined]
    assert frames.known(1) == {"segmentation", "scene"}
    assert data_set(data).counts(data) == "4 training, 2 validation, 2 test (the same)"
    assert "BSD" in data_set(data).licence(data)
    assert Ade20k().holds(tmp_path)


def test_scenes_are_listed_as_frames_have_them(tmp_path: Path) -> None:
    frames = train_frames(settings(write_ade_challenge(tmp_path)), STAGE).open()
    listed = listed_classes(frames, "scene")
    assert listed is not None
    assert listed.tolist() == [frames[index].truths.get("scene", -1) for index in range(len(frames))]
    assert listed_classes(frames, "segmentation") is None


def test_without_the_list_there_are_no_scenes_and_an_image_without_a_mask_is_not_used(tmp_path: Path) -> None:
    root = write_ade_challenge(tmp_path, scenes=False)
    (root / "annotations" / "training" / "ADE_train_00000002.png").unlink()
    frames = train_frames(settings(root), STAGE).open()
    assert list(frames.tasks) == ["segmentation"]
    assert len(frames) == 3


def test_an_image_of_the_list_without_a_mask_teaches_its_scene(tmp_path: Path) -> None:
    root = write_ade_challenge(tmp_path)
    (root / "annotations" / "training" / "ADE_train_00000002.png").unlink()
    frames = train_frames(settings(root), STAGE).open()
    assert frames.known(1) == set(frames[1].truths) == {"scene"}


def test_the_full_release_is_mapped_to_the_same_classes(tmp_path: Path) -> None:
    full, challenge = write_ade_full(tmp_path / "full"), write_ade_challenge(tmp_path / "challenge")
    frames = train_frames(settings(full), STAGE).open()
    assert len(frames) == 3
    assert frames[0].truths["segmentation"][0, [0, 31, 32, 63]].tolist() == [0, 0, 255, 255]
    assert data_tasks(settings(full))["segmentation"] == data_tasks(settings(challenge))["segmentation"]
    assert frames.tasks["scene"].classes == ("bedroom", "kitchen", "street")  # type: ignore[attr-defined]
    assert "full release" in data_set(settings(full)).title(settings(full))
    assert len(held_out_frames(settings(full), "test").open()) == 3


def test_numbers_of_the_full_release_are_decoded_from_red_and_green() -> None:
    seg = np.array([[[110, 162, 0], [10, 145, 7], [0, 0, 0], [255, 255, 0]]], np.uint8)
    assert release_numbers(seg).tolist() == [[11 * 256 + 162, 256 + 145, 0, 25 * 256 + 255]]
    assert release_classes(release_numbers(seg)).tolist() == [[0, 20, 255, 255]]


def test_a_release_that_numbers_its_classes_in_another_way_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    objects = [{"name_ndx": 2978, "name": "wall"}, {"name_ndx": 312, "name": "zebra"}, {"name_ndx": 5, "name": "anything"}]
    path.write_text(json.dumps({"annotation": {"object": objects}}))
    (problem,) = other_numbers(path)
    assert "312 is 'zebra'" in problem
    assert "'building'" in problem
    path.write_text("[]")
    assert "not a description" in other_numbers(path)[0]
    assert other_numbers(tmp_path / "none.json") == ()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.full(SIZE, 151, np.uint8), "indices 151"),
        (np.zeros((48, 60), np.uint8), "expected 48x64"),
        (np.zeros((*SIZE, 3), np.uint8), "colours"),
    ],
)
def test_a_wrong_mask_is_named(mask: np.ndarray, words: str, tmp_path: Path) -> None:
    root = write_ade_challenge(tmp_path)
    path = root / "annotations" / "training" / "ADE_train_00000001.png"
    path.write_bytes(encode_image(mask) if mask.ndim == 3 else grey_png(mask))
    with pytest.raises(BuildError, match=words) as caught:
        train_frames(settings(root), STAGE).open()[0]
    assert str(path) in str(caught.value)


def test_a_folder_without_images_or_with_a_wrong_list_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no folder images"):
        data_tasks(settings(tmp_path))
    root = write_ade_challenge(tmp_path / "a", val=0)
    with pytest.raises(BuildError, match="no labelled image of validation"):
        held_out_frames(settings(root), "val").open()
    aside = settings(root, validation_from_train=1)
    assert data_set(aside).counts(aside) == "3 training, 1 validation, 1 test (the same)"
    (root / "sceneCategories.txt").write_text("ADE_train_00000001 bed room\n")
    other = settings(tmp_path / "b")
    (tmp_path / "b").symlink_to(root)
    with pytest.raises(BuildError, match="line 1: expected an image's name"):
        data_tasks(other)
