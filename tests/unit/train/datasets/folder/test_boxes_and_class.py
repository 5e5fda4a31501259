"""Boxes and the class of a frame in a folder of one's own: read, refused, unknown, counted and drawn."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import validate_dataset
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.data_set import Split
from mtl.datasets.folder.camera import NoCamera
from mtl.datasets.folder.check import inspect
from mtl.datasets.folder.contact_sheet import contact_sheet
from mtl.datasets.folder.description import read_description
from mtl.datasets.folder.index import folder_index
from mtl.datasets.folder.source import FolderRequest, read_frame
from mtl.datasets.folder.truth_files import JsonFiles
from mtl.datasets.frame import listed_classes
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.datasets.report import Check

from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import labelled_folder
from edge_mtl.image.encoding import encode_image
from edge_mtl.manifest import InputSpec
from edge_mtl.tasks import BoxTruth
from tests.own_folder import (
    OBJECTS,
    OBJECTS_TOML,
    PLACES,
    SIZE,
    TOML,
    boxes_of,
    scene,
    write_frame,
    write_json,
    write_own_folder,
)

FIRST = "run0/0000"
OBJECTS_OF_FIRST, PLACE_OF_FIRST = f"objects/{FIRST}.objects.json", f"places/{FIRST}.place.json"
BOX = {"class": "box", "xyxy": [-0.5, -0.5, 127.5, 95.5]}
ALONE = TOML[: TOML.index("[camera]")] + TOML[TOML.index("[splits]") : TOML.index("[tasks.segmentation]")] + OBJECTS_TOML


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_own_folder(tmp_path, frames=24, objects=True)


def described(root: Path, text: str) -> Path:
    (root / "dataset.toml").write_text(text, encoding="utf-8")
    return root


def checked(root: Path) -> dict[str, Check]:
    return {check.name: check for check in inspect(root).checks}


# ---- description


def test_boxes_and_class_need_no_camera_and_have_the_options_of_their_kinds(tmp_path: Path) -> None:
    found = read_description(described(tmp_path, ALONE))
    assert found.camera == NoCamera()
    assert list(found.tasks) == ["objects", "place"]
    objects = found.tasks["objects"]
    assert (objects.classes, objects.levels, objects.score) == (OBJECTS, (8, 16, 32), 0.3)
    assert found.tasks["place"].classes == PLACES
    files = found.files["objects"]
    assert isinstance(files, JsonFiles)
    assert (files.folder, files.suffixes) == ("objects", (".objects.json",))
    options = "levels = [16, 32]\nscore = 0.4\nnms_iou = 0.5\nmost = 20\n"
    text = ALONE.replace('folder = "objects"\n', f'folder = "objects"\n{options}')
    objects = read_description(described(tmp_path, text)).tasks["objects"]
    assert (objects.levels, objects.score, objects.nms_iou, objects.most) == ((16, 32), 0.4, 0.5, 20)


def test_the_examples_of_the_guide_are_read(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[5] / "docs" / "guides" / "own-data.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    assert list(read_description(described(tmp_path, first)).tasks) == ["segmentation", "depth", "normals"]
    found = read_description(described(tmp_path, second))
    assert [spec.kind for spec in found.tasks.values()] == ["boxes", "class"]
    path = tmp_path / "example.json"
    truths = []
    for text, files in zip(re.findall(r"```json\n(.*?)```", guide, re.DOTALL), found.files.values(), strict=True):
        path.write_text(text, encoding="utf-8")
        truths.append(files.stored(path, (480, 640)))
    assert (truths[0].classes.tolist(), truths[0].crowd.tolist(), truths[1]) == ([0, 2], [False, True], 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('folder = "objects"\n', "", r"tasks\.objects\.folder: is missing"),
        ("classes = [", "clases = [", r"tasks\.\w+\.classes: is missing; expected a list of names"),
        ('folder = "objects"', 'folder = "objects"\nscores = 0.5', r"objects\.scores: is not a key .* did you mean 'score'"),
        ('folder = "places"', 'folder = "places"\nlevels = [8]', r"tasks\.place\.levels: is not a key of tasks\.place"),
        ('folder = "objects"', 'folder = "objects"\nscore = 2', r"tasks\.objects: score of objects should be 0\.001 to"),
        (f'"{PLACES[1]}"', f'"{PLACES[0]}"', r"tasks\.place: classes of place .* each once; found 'store'"),
    ],
)
def test_what_is_wrong_in_the_description_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ALONE
    with pytest.raises(BuildError, match=message) as caught:
        read_description(described(tmp_path, ALONE.replace(old, new)))
    assert str(caught.value).startswith(str(tmp_path / "dataset.toml"))


# ---- frames


def test_frames_have_the_boxes_and_the_class_that_there_are(own: Path) -> None:
    seen = 0
    for split in ("train", "val", "test"):
        frames = FolderRequest(str(own), split).open()  # type: ignore[arg-type]
        for index, stem in enumerate(frames.stems):
            number, frame = int(stem[-4:]), frames[index]
            assert ("objects" in frame.truths) == ("objects" in frames.known(index)) == (number % 5 != 4)
            assert ("place" in frame.truths) == ("place" in frames.known(index)) == (number % 7 != 3)
            if "place" in frame.truths:
                assert PLACES[frame.truths["place"]] == PLACES[number % 4]
            if "objects" in frame.truths:
                truth, expected = frame.truths["objects"], boxes_of(scene(number)[1])
                assert truth.xyxy.tolist() == [one["xyxy"] for one in expected]
                assert [OBJECTS[index] for index in truth.classes] == [one["class"] for one in expected]
                assert not truth.crowd.any()
            seen += 1
    assert seen == 24


def test_no_box_is_known_and_no_file_is_unknown(own: Path) -> None:
    write_json(own, OBJECTS_OF_FIRST, {"boxes": []})
    (own / PLACE_OF_FIRST).unlink()
    frame = read_frame(folder_index(own), FIRST)
    assert len(frame.truths["objects"]) == 0
    assert "place" not in frame.truths


def test_crowds_and_a_box_over_the_whole_image_are_read(own: Path) -> None:
    write_json(own, OBJECTS_OF_FIRST, {"boxes": [BOX, {**BOX, "crowd": True, "source": "by hand"}]})
    truth = read_frame(folder_index(own), FIRST).truths["objects"]
    assert truth.xyxy.tolist() == [BOX["xyxy"]] * 2
    assert truth.crowd.tolist() == [False, True]


def test_files_may_lie_beside_the_images_as_verify_takes_them(tmp_path: Path) -> None:
    """One folder with images, boxes and classes: what `edge-mtl verify --data` measures on is trained on as it is."""
    text = ALONE.replace('images = "images"', 'images = "."').replace('"objects"\n', '"."\n').replace('"places"\n', '"."\n')
    root = described(tmp_path, text)
    for number in range(8):
        image, label, *_ = scene(number)
        (root / f"{number}.png").write_bytes(encode_image(image))
        write_json(root, f"{number}.objects.json", {"boxes": boxes_of(label)})
        write_json(root, f"{number}.place.json", {"class": PLACES[number % 4]})
    index = folder_index(root)
    size = InputSpec(*SIZE)
    measured = list(labelled_folder(root, size, index.description.tasks))
    assert [item.name for item in measured] == list(index.photos) == [str(number) for number in range(8)]
    for item in measured:
        frame = read_frame(index, item.name)
        np.testing.assert_array_equal(frame.truths["objects"].xyxy, item.targets["objects"].xyxy)
        assert frame.truths["place"] == item.targets["place"]
    assert inspect(root).checks[1].found.startswith("8 images")


BROKEN = [
    (OBJECTS_OF_FIRST, [], r"objects\.json should hold an object; found list\. Mend it, or take it out"),
    (OBJECTS_OF_FIRST, {"objects": []}, r'objects\.json should have a list of "boxes"; found None'),
    (OBJECTS_OF_FIRST, {"boxes": [BOX, {**BOX, "class": "cat"}]}, r"json, box 1 should be of a class of the task, rack.*'cat'"),
    (OBJECTS_OF_FIRST, {"boxes": [{**BOX, "xyxy": [30, 40, 20, 60]}]}, r"json, box 0 should have left, top, right and bottom"),
    (OBJECTS_OF_FIRST, {"boxes": [{**BOX, "xyxy": [0, 0, 200, 60]}]}, r"json, box 0 should lie within its frame of 96x128"),
    (OBJECTS_OF_FIRST, {"boxes": [{**BOX, "xyxy": [0, 0, 0.5, 0.6]}] * 2}, r"json should have edges in pixels .* 96x128"),
    (OBJECTS_OF_FIRST, {"boxes": [{**BOX, "crowd": 1}]}, r"json, box 0 should be a crowd, true or false"),
    (
        PLACE_OF_FIRST,
        {"class": "moon"},
        r"place\.json should hold .* a class of place: store, dock, workshop, hall; found 'moon'",
    ),
    (PLACE_OF_FIRST, {}, r"place\.json should hold .*found None\. Mend it, or take it out"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_file_that_cannot_be_used_is_named_in_training_and_in_the_check(
    own: Path, name: str, content: Any, message: str
) -> None:
    write_json(own, name, content)
    with pytest.raises(BuildError, match=message) as caught:
        read_frame(folder_index(own), FIRST)
    assert str(caught.value).startswith(str(own / name))
    assert "Export" not in str(caught.value)
    task = "objects" if name is OBJECTS_OF_FIRST else "place"
    assert checked(own)[task].problems == (str(caught.value),)


def test_a_file_that_is_no_json_or_cannot_be_read_is_named(own: Path) -> None:
    path = own / OBJECTS_OF_FIRST
    path.write_bytes(b'{"boxes": [')
    with pytest.raises(BuildError, match=r"0000\.objects\.json should hold JSON \(.*\)\. Mend it"):
        read_frame(folder_index(own), FIRST)
    path.unlink()
    path.mkdir()
    with pytest.raises(BuildError, match=r"0000\.objects\.json cannot be read"):
        folder_index(own).description.files["objects"].stored(path, SIZE)


def test_requests_travel_and_batches_have_both_tasks(own: Path) -> None:
    request: FolderRequest = pickle.loads(pickle.dumps(FolderRequest(str(own), "train")))
    plan = BatchPlan(seed=0, stage=0, size=(64, 96), batch=8, stride=4, augment=AugmentSettings())
    batch = StepBatches(request, plan)[0]
    assert batch.targets["objects"].shape == (8, 8 * 12 + 4 * 6 + 2 * 3, 5)
    assert bool((batch.targets["objects"][..., 0] >= 0).any())
    assert set(batch.targets["place"].tolist()) <= {-1, *range(4)}
    frame = request.open()[0]
    again = pickle.loads(pickle.dumps(frame))
    assert isinstance(again.truths["objects"], BoxTruth)


def test_classes_of_all_frames_are_listed_without_opening_an_image(own: Path) -> None:
    frames = FolderRequest(str(own), "train").open()
    expected = [frames[index].truths.get("place", -1) for index in range(len(frames))]
    for path in (own / "images").rglob("*.png"):
        path.write_bytes(b"")
    found = listed_classes(frames, "place")
    assert found is not None
    assert found.tolist() == expected
    assert -1 in expected
    assert [listed_classes(frames, task) for task in ("segmentation", "objects")] == [None, None]


def test_a_frame_whose_only_truth_is_new_is_found(own: Path) -> None:
    write_frame(own, "bare", 3, tasks="")
    split: Split = folder_index(own).description.splits.of("bare")  # type: ignore[union-attr]
    assert "bare" not in FolderRequest(str(own), split).open().stems
    write_json(own, "objects/bare.objects.json", {"boxes": []})
    assert "bare" in FolderRequest(str(own), split).open().stems


# ---- check and sheet


def test_objects_and_frames_are_counted_by_class_and_split(own: Path) -> None:
    report = inspect(own)
    assert report.fine, [check.problems for check in report.checks]
    found = {check.name: check for check in report.checks}
    index = folder_index(own)
    objects, place = found["objects"].details, found["place"].details
    for split in ("train", "val", "test"):
        numbers = [int(stem[-4:]) for stem in index.assigned.stems[split]]
        named = [{one["class"] for one in boxes_of(scene(number)[1])} for number in numbers if number % 5 != 4]
        expected = {name: sum(name in one for one in named) for name in OBJECTS}
        counted = {name: of[split] for name, of in objects["classes"].items()}
        assert {name: one["boxes"] for name, one in counted.items()} == expected
        assert {name: one["frames"] for name, one in counted.items()} == expected
        assert sum(one["share"] for one in counted.values()) == pytest.approx(1, abs=1e-4)
        assert objects["coverage"][split] == [len(named), len(numbers)]
        places = {name: of[split]["frames"] for name, of in place["classes"].items()}
        assert places == {name: sum(n % 4 == i and n % 7 != 3 for n in numbers) for i, name in enumerate(PLACES)}
    assert "4 of 4 classes" in found["place"].found
    assert f"{objects['boxes']['count']} boxes" in found["objects"].found
    json.dumps(report.as_dict(), allow_nan=False)


def test_classes_that_training_never_sees_are_told(own: Path) -> None:
    text = (own / "dataset.toml").read_text()
    (own / "dataset.toml").write_text(text.replace('"hall"]', '"hall", "moon"]'))
    for stem in folder_index(own).assigned.stems["train"]:
        path = own / "objects" / f"{stem}.objects.json"
        if path.exists():
            kept = [one for one in json.loads(path.read_text())["boxes"] if one["class"] != "lamp"]
            path.write_text(json.dumps({"boxes": kept}))
    found = checked(own)
    (lamp,) = found["objects"].problems
    assert "the class 'lamp' is in no train frame (in 3 frames of val and test)" in lamp
    assert found["place"].problems == ("the class 'moon' is in no train frame (in no frame at all), so that it is not learnt",)
    assert "not measured in val, where no frame has them: workshop, hall, moon" in found["place"].note


def test_files_without_an_image_or_with_another_name_are_told(own: Path) -> None:
    write_json(own, "objects/elsewhere.objects.json", {"boxes": []})
    assert f"{own / 'objects/elsewhere.objects.json'}: there is no image of this label" in checked(own)["objects"].problems
    for path in sorted((own / "places").rglob("*.json")):
        path.rename(path.with_name(path.name.replace(".place.json", ".json")))
    problems = checked(own)["place"].problems
    assert problems[0] == f"{own / 'places'}: expected files called NAME.place.json, found none"


def test_an_image_that_cannot_be_read_is_the_one_problem(own: Path) -> None:
    (own / "images" / f"{FIRST}.png").write_bytes(b"no png")
    assert [name for name, check in checked(own).items() if check.problems] == ["images"]


def test_the_command_prints_the_counts(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate_dataset.main([str(own)]) == 0
    told = capsys.readouterr().out
    for words in ("objects: share of the boxes, boxes and frames", "place: share of the frames, and frames", "workshop"):
        assert words in told
    title = told.index("objects: share of the boxes")
    header = told[title:].splitlines()[2]
    assert header.index("train") < header.index("val") < header.index("test")
    write_json(own, PLACE_OF_FIRST, {"class": "moon"})
    assert validate_dataset.main([str(own)]) == 1
    assert f"{own / PLACE_OF_FIRST} should hold" in capsys.readouterr().out


def test_boxes_and_class_are_drawn(own: Path) -> None:
    """Another box, another class, and no file each change their own tile of the sheet, and nothing else."""
    before = contact_sheet(folder_index(own), [FIRST])
    changed = []
    for name, content in ((OBJECTS_OF_FIRST, {"boxes": [BOX]}), (PLACE_OF_FIRST, {"class": "hall"})):
        kept = (own / name).read_bytes()
        write_json(own, name, content)
        changed.append(contact_sheet(folder_index(own), [FIRST]))
        (own / name).unlink()
        changed.append(contact_sheet(folder_index(own), [FIRST]))
        (own / name).write_bytes(kept)
    width = before.shape[1] / 6
    for place, after in zip((4, 4, 5, 5), changed, strict=True):
        columns = np.flatnonzero((after != before).any(axis=(0, 2)))
        assert place * width - 10 < columns.min() <= columns.max() < (place + 1) * width + 10
