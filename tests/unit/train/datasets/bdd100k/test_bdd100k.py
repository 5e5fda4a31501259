"""BDD100K: both releases, each image with the truths that it has, and files that are missing or wrong."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mtl.config import load_config
from mtl.datasets.bdd100k.classes import BOXES
from mtl.datasets.bdd100k.source import Bdd100k
from mtl.datasets.frame import Frame, listed_classes
from mtl.datasets.sources import data_set, data_tasks, held_out_frames, train_frames
from mtl.datasets.streets.tasks import STREET_TASKS
from mtl.geometry import canonical_intrinsics
from mtl.settings import DataSettings, Stage
from mtl.tasks import head_of

from edge_mtl.errors import BuildError
from edge_mtl.tasks import LabelsSpec
from tests.bdd_files import box, drivable_mask, frame, lane_mask, stem, write_bdd, write_bdd_2018, write_json, write_mask
from tests.published_files import SIZE, jpeg

STAGE = Stage(height=32, width=32, steps=1)
DETECTION = Path("labels/det_20/det_train.json")
CONFIGS = Path(__file__).parents[5] / "train" / "configs"


def settings(root: Path, **changes: Any) -> DataSettings:
    return DataSettings(kind="bdd100k", root=str(root), **changes)


def listing(root: Path, split: str = "train") -> Any:
    data = settings(root)
    return data_set(data).listing(data, split)  # type: ignore[attr-defined]


def with_frames(root: Path, *frames: Any, images: int = 2) -> Path:
    """A data set whose training labels are these frames."""
    write_bdd(root, train=images, val=1, seg=0)
    shutil.rmtree(root / "labels" / "lane")
    shutil.rmtree(root / "labels" / "drivable")
    write_json(root / DETECTION, list(frames))
    return root


def first(root: Path) -> Frame:
    return train_frames(settings(root), STAGE).open()[0]


def test_a_frame_has_the_truths_that_are_known_of_it(tmp_path: Path) -> None:
    data = settings(write_bdd(tmp_path))
    frames = pickle.loads(pickle.dumps(train_frames(data, STAGE))).open()
    assert {task: (spec.kind, len(spec.classes)) for task, spec in frames.tasks.items()} == {
        "objects": ("boxes", 10),
        "drivable": ("labels", 3),
        "lane": ("labels", 4),
        "segmentation": ("labels", 19),
        "weather": ("class", 6),
        "scene": ("class", 6),
        "timeofday": ("class", 3),
    }
    drivable, lane = frames.tasks["drivable"], frames.tasks["lane"]
    assert isinstance(drivable, LabelsSpec)
    assert isinstance(lane, LabelsSpec)
    assert drivable.ignored == (2,), "background is left out of the mean"
    assert (lane.ignored, lane.tolerance_px) == ((0,), 2), "measured as lines, too"
    assert len(frames) == 5
    assert [sorted(frames.known(index)) for index in (1, 4)] == [
        ["drivable", "lane", "objects", "scene", "timeofday"],
        ["segmentation"],
    ]
    for index in range(len(frames)):
        assert set(frames[index].truths) == frames.known(index)
    assert frames[1].intrinsics == canonical_intrinsics(*SIZE), "no camera is known"


def test_boxes_hold_their_last_pixel_and_are_cut_to_their_image(tmp_path: Path) -> None:
    labels = [
        box("bike", (4, 5, 13, 20.5)),
        box("other vehicle", (-3, 40, 63.9, 47)),
        box("traffic light", (1, 1, 1, 1), crowd=True),
    ]
    truth = first(with_frames(tmp_path, frame(0, labels), frame(1, None))).truths["objects"]
    np.testing.assert_array_equal(truth.xyxy, np.array([[3.5, 4.5, 13.5, 21], [-0.5, 39.5, 63.5, 47.5], [0.5, 0.5, 1.5, 1.5]]))
    assert [BOXES[one] for one in truth.classes] == ["bicycle", "car", "traffic light"]
    assert truth.crowd.tolist() == [False, True, True]
    assert (truth.xyxy.dtype, truth.classes.dtype, truth.crowd.dtype) == (np.float32, np.int64, np.bool_)
    second = train_frames(settings(tmp_path), STAGE).open()[1]
    assert len(second.truths["objects"]) == 0, "a listed image without labels teaches that there is none"


def test_masks_are_classes(tmp_path: Path) -> None:
    frames = train_frames(settings(write_bdd(tmp_path)), STAGE).open()
    np.testing.assert_array_equal(frames[0].truths["drivable"], drivable_mask())
    lane = frames[0].truths["lane"]
    assert [lane[0, 10], lane[31, 30], lane[0, 63], lane[0, 0]] == [1, 2, 3, 0], "line, crosswalk, curb, background"
    assert frames[4].truths["segmentation"][[0, 1, 1], [0, 0, 63]].tolist() == [255, 0, 18]


def test_undefined_attributes_are_unknown_and_listed_as_frames_have_them(tmp_path: Path) -> None:
    frames = train_frames(settings(write_bdd(tmp_path)), STAGE).open()
    truths = [frames[index].truths for index in range(3)]
    for task, words in (("weather", ["clear", "", "rainy"]), ("scene", ["city street", "highway", ""])):
        classes = frames.tasks[task].classes  # type: ignore[attr-defined]
        assert [classes[one[task]] if task in one else "" for one in truths] == words
    for task in ("weather", "scene", "timeofday"):
        listed = listed_classes(frames, task)
        assert listed is not None
        assert listed.tolist() == [frames[index].truths.get(task, -1) for index in range(len(frames))]
    assert listed_classes(frames, "lane") is None


@pytest.mark.parametrize("combined", [False, True])
def test_the_release_of_2018_has_boxes_and_outlines_in_one_file(combined: bool, tmp_path: Path) -> None:
    data = settings(write_bdd_2018(tmp_path, combined=combined))
    frames = train_frames(data, STAGE).open()
    assert frames.known(1) >= {"objects", "drivable", "lane"}
    assert "segmentation" not in frames.tasks
    truths = frames[0].truths
    assert [BOXES[one] for one in truths["objects"].classes] == ["traffic sign", "motorcycle"]
    np.testing.assert_array_equal(truths["objects"].xyxy[0], [0.5, 1.5, 3.5, 4.5])
    np.testing.assert_array_equal(truths["drivable"][26:46, [2, 29, 34, 61]], np.tile([0, 0, 1, 1], (20, 1)))
    assert (truths["drivable"][:23] == 2).all()
    assert (truths["lane"][4:44].sum(axis=1) == 3).all(), "three pixels wide, as the data set's masks are"
    assert (truths["lane"][:, 10] == 1).all()
    second = frames[1].truths
    assert (second["drivable"] == 2).all(), "where files label areas, an image without any has none"
    assert not second["lane"].any()
    assert len(held_out_frames(data, "val").open()) == 1


def test_masks_come_before_outlines_and_new_boxes_before_old_ones(tmp_path: Path) -> None:
    write_bdd_2018(tmp_path, combined=True, train=2, val=1)
    write_bdd(tmp_path, train=2, val=1, seg=0)
    shutil.rmtree(tmp_path / "labels" / "lane")
    truths = first(tmp_path).truths
    np.testing.assert_array_equal(truths["drivable"], drivable_mask())
    assert truths["lane"][20, 10] == 1, "lanes of the older file, where no mask has them"
    assert len(truths["objects"]) == 0, "the newer file has no box here"


def test_outlines_and_run_lengths_of_files_of_their_own_are_painted(tmp_path: Path) -> None:
    root = with_frames(tmp_path, frame(0), frame(1))
    square = [{"vertices": [[0, 0], [20, 0], [20, 20], [0, 20]], "types": "LLLL", "closed": False}]
    hole = {"counts": [0, 48 * 32, 48 * 32], "size": list(SIZE)}
    named = root / "labels"
    areas = [{"category": "alternative", "poly2d": square}, {"category": "direct", "rle": hole}]
    for split, number in (("train", 0), ("val", 50)):
        write_json(named / "drivable" / "polygons" / f"drivable_{split}.json", [frame(number, areas)])
        write_json(named / "sem_seg" / "rles" / f"sem_seg_{split}.json", {"frames": [
            {"name": f"{stem(100)}.jpg", "labels": [{"category": "sky", "rle": hole}, {"category": "banner", "poly2d": square}]}
        ]})  # fmt: skip
        jpeg(root / "images" / "10k" / split / f"{stem(100)}.jpg", 100 if split == "train" else 150)
    shutil.rmtree(root / "images" / "10k" / "val")
    (named / "sem_seg" / "rles" / "sem_seg_val.json").unlink()
    frames = train_frames(settings(root), STAGE).open()
    painted = [{"drivable", "segmentation"} & frames.known(index) for index in range(3)]
    assert painted == [{"drivable"}, set(), {"segmentation"}]
    drivable = frames[0].truths["drivable"]
    assert (drivable[:, :32] == 0).all(), "later shapes lie over earlier ones"
    assert (drivable[:, 32:] == 2).all()
    assert frames[2].truths["segmentation"][0, [0, 31, 32]].tolist() == [10, 10, 255], "what no class covers is void"
    remarks = Bdd100k().remarks(listing(root))
    assert "1 images have drivable from outlines or codes, not masks" in remarks


def test_what_files_of_all_tasks_never_label_is_not_known(tmp_path: Path) -> None:
    root = write_bdd_2018(tmp_path, combined=True)
    path = root / "labels" / "bdd100k_labels_images_train.json"
    path.write_text(path.read_text().replace('"lane"', '"area/unknown"'))
    frames = train_frames(settings(root), STAGE).open()
    assert "lane" not in frames.known(0), "no lane in the whole file: lanes were not labelled"
    assert {"objects", "drivable"} <= frames.known(1)


def test_a_file_of_one_task_labels_it_although_no_image_has_any(tmp_path: Path) -> None:
    root = with_frames(tmp_path, frame(0), frame(1))
    write_json(root / "labels" / "lane" / "polygons" / "lane_train.json", [frame(0), frame(1, None)])
    frames = train_frames(settings(root), STAGE).open()
    assert all("lane" in frames.known(index) for index in range(2))
    assert not frames[1].truths["lane"].any()


def test_outlines_of_a_file_of_their_own_come_before_those_of_2018(tmp_path: Path) -> None:
    root = write_bdd_2018(tmp_path, combined=True)
    write_json(root / "labels" / "drivable" / "polygons" / "drivable_train.json", [frame(0), frame(1)])
    truths = first(root).truths
    assert (truths["drivable"] == 2).all(), "the newer file has no area here"
    assert truths["lane"].any()


def test_an_image_in_both_sets_is_two_frames_each_with_the_labels_of_its_set(tmp_path: Path) -> None:
    root = write_bdd(tmp_path, seg=0)
    jpeg(root / "images" / "10k" / "train" / f"{stem(0)}.jpg", 0)
    write_mask(root / "labels" / "sem_seg" / "masks" / "train" / f"{stem(0)}.png", np.zeros(SIZE, np.uint8))
    jpeg(root / "images" / "10k" / "train" / f"{stem(1)}.jpg", 1)
    frames = train_frames(settings(root), STAGE).open()
    assert len(frames) == 5, "the other image of 10k has no label of its own"
    assert "segmentation" not in frames.known(0)
    assert frames.known(4) == {"segmentation"}


def test_training_images_that_the_other_set_holds_out_are_not_used(tmp_path: Path) -> None:
    root = write_bdd(tmp_path)
    number = 50
    jpeg(root / "images" / "10k" / "train" / f"{stem(number)}.jpg", number)
    shutil.copy(
        root / "labels" / "sem_seg" / "masks" / "train" / f"{stem(100)}.png",
        root / "labels" / "sem_seg" / "masks" / "train" / f"{stem(number)}.png",
    )
    assert len(train_frames(settings(root), STAGE).open()) == 5
    remarks = Bdd100k().remarks(listing(root))
    assert "1 images are validation images of the other set, and not used" in remarks


def test_boxes_and_maps_are_the_tasks_of_streets_so_that_both_train_them(tmp_path: Path) -> None:
    specs = data_tasks(settings(write_bdd(tmp_path)))
    for task in ("objects", "drivable", "lane", "segmentation"):
        assert head_of(specs[task]).joined(specs[task], STREET_TASKS[task]) is not None, task


def test_it_says_what_it_is_and_what_it_may_be_used_for(tmp_path: Path) -> None:
    data = settings(write_bdd(tmp_path / "outer" / "bdd100k").parent)
    known = data_set(data)
    assert known.title(data) == "BDD100K"
    for words in ("education, research and not-for-profit", "commercial use only by members"):
        assert words in known.licence(data)
    assert not known.redistributable(data)
    assert known.counts(data) == "5 training, 3 validation, 3 test (the same)"
    assert known.holds(tmp_path / "outer")
    assert not Bdd100k().holds(tmp_path)
    aside = settings(tmp_path / "outer", validation_from_train=2)
    assert known.counts(aside) == "3 training, 2 validation, 3 test"


def test_labels_that_cannot_be_used_are_an_error_that_names_them_and_may_be_left_out(tmp_path: Path) -> None:
    bad = [
        box("car", (4, 5, 13, 20)),
        box("zebra", (1, 2, 3, 4)),
        box("car", (9, 5, 3, 20)),
        box("car", (9, 5, float("nan"), 20)),
        box("car", (9, 5, 1e300, 20)),
        {"category": "car", "box2d": [1, 2, 3, 4]},
        {"category": "car"},
        "car",
    ]
    strange = {**frame(1), "attributes": {"weather": "hail"}}
    root = with_frames(tmp_path, frame(0, bad), strange, frame(0), frame(9), {"name": 5, "labels": []})
    with pytest.raises(BuildError, match=r"4 of 5 labelled frames cannot be used") as caught:
        train_frames(settings(root), STAGE).open()
    assert "data.may_skip" in str(caught.value)
    frames, boxes, _ = listing(root).left_out
    for words in ("its weather is 'hail'", "another frame is called", f"has no image {stem(9)}", "a frame has the name 5"):
        assert words in " ".join(frames.reasons)
    assert (boxes.count, boxes.of) == (7, 8)
    for words in ("'zebra' is none", "holds no pixel", "expected numbers", "label 7 of", "its box2d is None"):
        assert words in " ".join(boxes.reasons)
    opened = train_frames(settings(root, may_skip=0.9), STAGE).open()
    assert len(opened[0].truths["objects"]) == 1
    assert "left out of training: 4 of 5 labelled frames, 7 of 8 boxes" in data_set(settings(root)).counts(settings(root))


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        ({"category": "direct", "poly2d": [{"vertices": [[1, 2]], "types": "L", "closed": True}]}, "two vertices"),
        ({"category": "direct", "poly2d": "LL"}, "expected a list"),
        ({"category": "direct", "rle": {"counts": "23o", "size": [2, 3]}}, "cut short"),
    ],
)
def test_outlines_that_cannot_be_used_are_named(outline: dict[str, Any], words: str, tmp_path: Path) -> None:
    root = with_frames(tmp_path, frame(0), frame(1))
    write_json(root / "labels" / "drivable" / "polygons" / "drivable_train.json", [frame(0, [outline])])
    with pytest.raises(BuildError, match=f"1 of 1 areas and lanes cannot be used: .*drivable_train.json: label 0 of .*{words}"):
        train_frames(settings(root), STAGE).open()


def test_a_lane_of_no_known_kind_is_named(tmp_path: Path) -> None:
    root = write_bdd_2018(tmp_path, combined=True)
    path = root / "labels" / "bdd100k_labels_images_train.json"
    path.write_text(path.read_text().replace("single white", "dotted pink"))
    with pytest.raises(BuildError, match=r"areas and lanes cannot be used: .*a lane mark of the category 'dotted pink'"):
        train_frames(settings(root), STAGE).open()


def test_run_lengths_of_another_size_are_named_when_they_are_read(tmp_path: Path) -> None:
    root = with_frames(tmp_path, frame(0), frame(1))
    label = {"category": "direct", "rle": {"counts": [6], "size": [2, 3]}}
    write_json(root / "labels" / "drivable" / "polygons" / "drivable_train.json", [frame(0, [label])])
    with pytest.raises(BuildError, match=rf"{stem(0)}\.jpg: expected run-length codes of its 48x64 pixels .* 2x3 pixels"):
        first(root)


def test_a_box_outside_its_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    root = with_frames(tmp_path, frame(0, [box("car", (600, 5, 700, 20))]), frame(1))
    with pytest.raises(BuildError, match=rf"{stem(0)}\.jpg: expected boxes within its 48x64 pixels"):
        first(root)


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _write(content: Any) -> Callable[[Path], None]:
    return lambda path: write_json(path, content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_half, "cut short"),
        (_write([]), "it has no frames"),
        (_write({}), "it has no frames"),
        (_write("frames"), "expected an array of frames"),
        (_write([1]), "frames holds '1'"),
        (_write([{"id": 1, "labels": []}]), "a frame has the name None"),
        (_write({"frames": [{"name": "a.jpg", "labels": {"car": 1}}]}), "dict of labels"),
        (_write([{"name": "\ud800.jpg", "labels": []}]), "a frame has the name"),
        (lambda path: path.write_bytes(b"\xff\xfe["), "not UTF-8"),
    ],
)
def test_a_damaged_file_of_labels_is_named(damage: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    root = write_bdd(tmp_path)
    damage(root / DETECTION)
    with pytest.raises(BuildError, match=r"det_train\.json") as caught:
        data_tasks(settings(root))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"), [("{", "cut short"), ("[]", "no object with one of frames"), ('{"frames": [1]}', "one of frames")]
)
def test_a_damaged_file_of_one_image_is_named(content: str, words: str, tmp_path: Path) -> None:
    root = write_bdd_2018(tmp_path, combined=False)
    (root / "labels" / "100k" / "train" / f"{stem(1)}.json").write_text(content)
    with pytest.raises(BuildError, match=rf"{stem(1)}\.json.*{words}"):
        data_tasks(settings(root))


@pytest.mark.parametrize(
    ("folder", "mask", "words"),
    [
        ("lane", np.full(SIZE, 64, np.uint8), "bytes 64"),
        ("lane", np.zeros(SIZE, np.uint8), "0 is a crosswalk"),
        ("lane", lane_mask()[:, :60], "expected 48x64, as its image is, found 48x60"),
        ("drivable", np.full(SIZE, 3, np.uint8), "expected drivable as 0 to 2 and 255"),
        ("drivable", np.zeros((*SIZE, 3), np.uint8), "colours"),
    ],
)
def test_a_wrong_mask_is_named(folder: str, mask: np.ndarray, words: str, tmp_path: Path) -> None:
    root = write_bdd(tmp_path)
    path = root / "labels" / folder / "masks" / "train" / f"{stem(0)}.png"
    write_mask(path, mask)
    with pytest.raises(BuildError, match=words) as caught:
        first(root)
    assert str(path) in str(caught.value)


def test_masks_of_older_archives_are_found_by_the_names_of_their_images(tmp_path: Path) -> None:
    root = write_bdd(tmp_path)
    for folder, split in (("drivable", "train"), ("drivable", "val")):
        for path in sorted((root / "labels" / folder / "masks" / split).iterdir()):
            path.rename(path.with_name(f"{path.stem}_drivable_id.png"))
    assert "drivable" in first(root).truths


def test_folders_without_images_or_labels_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"has no images of BDD100K.*not-for-profit"):
        data_tasks(settings(tmp_path))
    root = write_bdd(tmp_path / "a")
    shutil.rmtree(root / "labels")
    assert not Bdd100k().holds(root)
    with pytest.raises(BuildError, match=r"has no labelled image of train: expected images/100k/train.*not-for-profit"):
        train_frames(settings(root), STAGE).open()


def test_a_mask_that_comes_later_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_bdd(tmp_path)
    path = root / "labels" / "lane" / "masks" / "train" / f"{stem(0)}.png"
    moved = path.rename(tmp_path / "aside.png")
    assert "lane" not in listing(root).known(0)
    moved.rename(path)
    monkeypatch.setattr("mtl.datasets.published.index_cache._TRUSTED_S", 0.0)
    assert "lane" in Bdd100k().find(settings(root), "train").known(0)


@pytest.mark.parametrize("name", ["bdd100k-b0", "bdd100k-b2"])
def test_the_configurations_load(name: str, tmp_path: Path) -> None:
    path = CONFIGS / f"{name}.toml"
    small = {"data.root": f"'{write_bdd(tmp_path)}'", "data.validation_from_train": "1"}
    loaded = load_config(path, small)
    assert loaded.name == name
    assert loaded.model.tasks == ("objects", "drivable", "lane")
    assert (loaded.stages[-1].height, loaded.stages[-1].width) == (384, 640)
    text = path.read_text()
    for figure in ("30.35", "89.2", "76.5", "91.5", "70.5", "26.2", "not reproduced here"):
        assert figure in text


def test_labels_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_bdd(tmp_path)
    before = listing(root).table.arrays
    monkeypatch.setattr("mtl.datasets.bdd100k.source.split_table", None)
    monkeypatch.setattr("mtl.datasets.published.index_cache._KEPT", {})
    again = Bdd100k().find(settings(root), "train").table.arrays
    assert set(again) == set(before)
    for key, values in before.items():
        np.testing.assert_array_equal(again[key], values)
