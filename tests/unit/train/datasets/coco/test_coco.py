"""COCO's format: boxes in pixels' centres, categories with gaps, what cannot be used, and where the files are."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mtl.datasets.coco.source import Coco
from mtl.datasets.sources import data_set, data_tasks, held_out_frames, train_frames
from mtl.geometry import canonical_intrinsics
from mtl.settings import DataSettings, Stage

from edge_mtl.errors import BuildError
from tests.published_files import CATEGORIES, SIZE, coco_json, jpeg, write_coco

STAGE = Stage(height=32, width=32, steps=1)
STARTS = {"train": 0, "val": 50}
BOX = {"id": 7, "image_id": 100, "category_id": 1, "bbox": [0, 0, 64, 48], "iscrowd": 0}


def settings(root: Path, **changes: Any) -> DataSettings:
    return DataSettings(kind="coco", root=str(root), **changes)


def with_boxes(*boxes: dict[str, Any]) -> dict[str, Any]:
    """A JSON of one image with these annotations."""
    return {**coco_json(1), "annotations": list(boxes)}


def test_frames_have_their_boxes_by_pixel_centres_and_categories_by_rising_id(tmp_path: Path) -> None:
    data = settings(write_coco(tmp_path))
    frames = pickle.loads(pickle.dumps(train_frames(data, STAGE))).open()
    assert len(frames) == 4
    spec = frames.tasks["objects"]
    assert spec.classes == ("person", "stop sign", "toothbrush")
    frame = frames[2]
    truth = frame.truths["objects"]
    np.testing.assert_array_equal(truth.xyxy, np.array([[3.5, 5.5, 24, 15.5], [11.5, 5.5, 32, 15.5]], np.float32))
    expected = [CATEGORIES[one]["name"] for one in (2, 0)]
    assert [spec.classes[one] for one in truth.classes] == expected
    assert truth.crowd.tolist() == [False, True]
    assert (truth.xyxy.dtype, truth.classes.dtype, truth.crowd.dtype) == (np.float32, np.int64, np.bool_)
    assert frame.size == SIZE
    assert frame.intrinsics == canonical_intrinsics(*SIZE), "no camera is known"
    assert len(frames[0].truths["objects"]) == 0, "an image without any object teaches that there is none"
    assert frames.known(0) == {"objects"}


def test_cocos_own_categories_are_known_by_their_number_and_names(tmp_path: Path) -> None:
    names = ["person", *(f"class {number}" for number in range(78)), "toothbrush"]
    categories = [{"id": 1 + number, "name": name} for number, name in enumerate(names)]
    data = settings(write_coco(tmp_path, jsons={split: coco_json(3, first, categories) for split, first in STARTS.items()}))
    assert data_set(data).title(data) == "COCO instances"
    assert "CC BY 4.0" in data_set(data).licence(data)


def test_validation_frames_are_tested_where_nothing_else_is_held_out(tmp_path: Path) -> None:
    data = settings(write_coco(tmp_path / "other"))
    assert data_set(data).counts(data) == "4 training, 3 validation, 3 test (the same)"
    assert not data_set(data).redistributable(data)
    assert data_set(data).title(data) == "boxes of other"
    assert "none is stated" in data_set(data).licence(data)
    assert Coco().holds(tmp_path / "other")
    aside = settings(tmp_path / "other", validation_from_train=1)
    assert data_set(aside).counts(aside) == "3 training, 1 validation, 3 test"
    names = [{frames._listing.image(int(one)).name for one in frames._numbers} for frames in  # type: ignore[attr-defined]
             (train_frames(aside, STAGE).open(), held_out_frames(aside, "val").open())]  # fmt: skip
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 4


def test_boxes_are_cut_to_their_image_and_those_without_area_are_an_error_that_names_them(tmp_path: Path) -> None:
    bad = (
        BOX,
        {**BOX, "id": 8, "bbox": [-5, 10, 20, 100]},
        {**BOX, "id": 918, "bbox": [3, 3, 1.03, 0.0]},
        {**BOX, "id": 9, "bbox": [70, 3, 5, 5]},
        {**BOX, "id": 10, "category_id": 2},
        {**BOX, "id": 11, "image_id": 5},
        {**BOX, "id": 7},
        {**BOX, "id": 12, "bbox": [1, 2, 3]},
        {**BOX, "id": 13, "bbox": [1, 2, 3, float("nan")]},
    )
    root = write_coco(tmp_path, train=1, jsons={"train": with_boxes(*bad)})
    with pytest.raises(BuildError, match="7 of 9 boxes cannot be used") as caught:
        train_frames(settings(root), STAGE).open()
    assert "instances_train2017.json" in str(caught.value)
    assert "data.may_skip" in str(caught.value)
    reasons = " ".join(data_set(settings(root)).listing(settings(root), "train").left_out[1].reasons)  # type: ignore[attr-defined]
    for words in (
        "918 of image 100: its box is 1.03 x 0",
        "9 of image 100: its box at 70, 3",
        "category 2 is none",
        "11 of image 5: images does not list",
        "annotation 7: another",
        "12: the bbox [1, 2, 3]",
        "13 of image 100: its box is not finite",
    ):
        assert words in reasons
    truth = train_frames(settings(root, may_skip=0.8), STAGE).open()[0].truths["objects"]
    np.testing.assert_array_equal(truth.xyxy, [[-0.5, -0.5, 63.5, 47.5], [-0.5, 9.5, 14.5, 47.5]])
    assert "left out of training: 7 of 9 boxes" in data_set(settings(root)).counts(settings(root))


def test_images_that_are_missing_or_share_an_id_are_named_and_may_be_left_out(tmp_path: Path) -> None:
    content = coco_json(4)
    content["images"][1]["id"] = content["images"][0]["id"]
    content["images"][3]["file_name"] = "../secret.jpg"
    root = write_coco(tmp_path, jsons={"train": content})
    (root / "train2017" / f"{2:012d}.jpg").unlink()
    with pytest.raises(BuildError, match="3 of 4 images cannot be used") as caught:
        train_frames(settings(root), STAGE).open()
    for words in ("another image has its id", "there is no file", "within the folder"):
        assert words in str(caught.value)
    assert len(train_frames(settings(root, may_skip=0.8), STAGE).open()) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": []}, "no images"),
        ({"categories": []}, "no categories"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "several categories have the id 1"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "several categories have the name 'a'"),
        ({"annotations": [{"id": 1, "image_id": 100, "caption": "a cat"}]}, "no bbox, but caption"),
        ({"images": [{"name": "a.jpg", "videoName": "b"}]}, "not in COCO's format"),
        ({"images": ["a.jpg"]}, "not in COCO's format"),
    ],
)
def test_a_file_of_another_format_says_what_was_expected(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    root = write_coco(tmp_path, jsons={"train": {**coco_json(4), **change}})
    with pytest.raises(BuildError, match=r"instances_train2017\.json") as caught:
        train_frames(settings(root), STAGE).open()
    assert words in str(caught.value)


def test_other_layouts_and_files_by_name_are_found(tmp_path: Path) -> None:
    for word, first in (("train", 0), ("valid", 50)):
        (tmp_path / word).mkdir()
        (tmp_path / word / "_annotations.coco.json").write_text(json.dumps(coco_json(2, first)))
        for one in range(2):
            jpeg(tmp_path / word / f"{first + one:012d}.jpg", first + one)
    assert len(held_out_frames(settings(tmp_path), "val").open()) == 2
    (tmp_path / "annotations").mkdir()
    for name in ("instances_train2014.json", "instances_train2017.json"):
        (tmp_path / "annotations" / name).write_text(json.dumps(coco_json(1)))
    with pytest.raises(BuildError, match="several files of train"):
        data_tasks(settings(tmp_path))
    named = settings(tmp_path, annotations={"train": "annotations/instances_train2014.json"})
    assert len(train_frames(named, STAGE).open()) == 1


def test_splits_with_other_categories_are_refused(tmp_path: Path) -> None:
    other = coco_json(3, 50, categories=({"id": 1, "name": "person"}, {"id": 2, "name": "car"}))
    root = write_coco(tmp_path, jsons={"val": other})
    with pytest.raises(BuildError, match="other categories"):
        held_out_frames(settings(root), "val").open()


@pytest.mark.parametrize("name", ["car\r", "stop\tsign"])
def test_categories_that_no_bundle_could_name_are_refused_before_training(tmp_path: Path, name: str) -> None:
    categories = ({"id": 1, "name": "person"}, {"id": 2, "name": name})
    root = write_coco(tmp_path, jsons={split: coco_json(3, first, categories) for split, first in STARTS.items()})
    with pytest.raises(BuildError, match=r"instances_.*json: classes of objects should be .*Mend the names there"):
        data_tasks(settings(root))


def test_an_image_of_another_size_than_the_json_says_is_named(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    jpeg(root / "train2017" / f"{1:012d}.jpg", 1, size=(64, 48))
    with pytest.raises(BuildError, match="expected 48x64"):
        train_frames(settings(root), STAGE).open()[1]


def test_a_task_may_have_another_name_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    data = settings(write_coco(tmp_path), task_names={"objects": "things"})
    assert list(data_tasks(data)) == ["things"]
    frames = train_frames(data, STAGE).open()
    assert frames.tasks["things"].name == "things"
    assert set(frames[1].truths) == {"things"} == frames.known(1)
    with pytest.raises(BuildError, match=r"data\.task_names\.boxes is not a task"):
        data_tasks(settings(tmp_path, task_names={"boxes": "things"}))
    assert "names of tasks" in str(data_set(data).problem(settings(tmp_path, task_names={"objects": "My Things"})))
    assert "no split" in str(data_set(data).problem(settings(tmp_path, annotations={"dev": "a.json"})))


def test_a_json_whose_images_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    listed = coco_json(3)
    jsons = {"train": {**listed, "images": [{"id": 100, "file_name": 5, "height": 48, "width": 64}]}}
    with pytest.raises(BuildError, match=r"instances_train2017.json.* image"):
        data_set(settings(tmp_path)).train_count(settings(write_coco(tmp_path, jsons=jsons)))
