"""dataset.toml: made from the bundle and what a person states, completed where a task is missing, never contradicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mtl.datasets.folder.camera import CameraFiles, NoCamera, SharedCamera
from mtl.datasets.folder.description import DESCRIPTION, read_description
from mtl.pseudo_labels.dataset_file import Described, Stated, describe_folder

from edge_mtl.errors import BuildError
from edge_mtl.tasks import KINDS, NYU_TASKS, Specs

CAMERA = SharedCamera((500.0, 501.0, 319.5, 239.5), None)
STATED = Stated("our rooms", 'internal "use" only', False, CAMERA)
LANE = KINDS["labels"].spec(
    "lane", {"classes": ["road", "line"], "colours": [[1, 2, 3], [4, 5, 6]], "ignore_in_mean": ["road"]}
)


def describe(root: Path, tasks: Specs = NYU_TASKS, stated: Stated = STATED) -> Described:
    return describe_folder(root, tasks, stated, first_size=lambda images: (480, 640))


def only(*names: str) -> Specs:
    return {name: NYU_TASKS[name] for name in names}


def test_a_new_description_says_what_the_bundle_and_the_person_say(tmp_path: Path) -> None:
    described = describe(tmp_path)
    assert not (tmp_path / DESCRIPTION).exists()
    described.write()
    found = read_description(tmp_path)
    assert (found.title, found.licence, found.redistributable) == ("our rooms", 'internal "use" only', False)
    assert found.camera == SharedCamera((500.0, 501.0, 319.5, 239.5), (480, 640))
    assert dict(found.tasks) == dict(NYU_TASKS)
    assert {name: files.folder for name, files in found.files.items()} == {
        "segmentation": "masks", "depth": "depth", "normals": "normals",
    }  # fmt: skip
    assert found.root == described.description.root == tmp_path


def test_classes_keep_their_colours_and_tasks_of_one_kind_their_own_folders(tmp_path: Path) -> None:
    describe(tmp_path, {"segmentation": NYU_TASKS["segmentation"], "lane": LANE}, replace(STATED, camera=None)).write()
    found = read_description(tmp_path)
    assert found.tasks["lane"] == LANE
    assert (found.files["segmentation"].folder, found.files["lane"].folder) == ("segmentation", "lane")
    assert found.camera == NoCamera()


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (Stated(), "--licence TEXT.*--not-redistributable"),
        (replace(STATED, redistributable=None), "--not-redistributable"),
        (replace(STATED, licence=None), "--licence"),
        (replace(STATED, camera=None), "--camera fx,fy,cx,cy"),
    ],
)
def test_what_has_to_be_stated_is_asked_for_by_option(tmp_path: Path, stated: Stated, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        describe(tmp_path, stated=stated)
    assert not (tmp_path / DESCRIPTION).exists()


def test_the_same_command_again_changes_nothing(tmp_path: Path) -> None:
    describe(tmp_path).write()
    assert describe(tmp_path).text is None
    assert describe(tmp_path, stated=Stated()).text is None


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (replace(STATED, title="others"), "title is 'our rooms', 'others' was asked for"),
        (replace(STATED, redistributable=True), "redistributable is False, True was asked for"),
        (replace(STATED, camera=SharedCamera((500.0, 501.0, 320.0, 240.0), None)), "states another camera"),
        (replace(STATED, camera=replace(CAMERA, size=(240, 320))), "states another camera"),
    ],
)
def test_a_description_that_says_something_else_is_not_overruled(tmp_path: Path, stated: Stated, words: str) -> None:
    describe(tmp_path).write()
    with pytest.raises(BuildError, match=words):
        describe(tmp_path, stated=stated)


def test_a_description_without_a_task_is_completed_and_keeps_its_text(tmp_path: Path) -> None:
    text = (
        '# ours\nlicence = "CC0"\nredistributable = true\nimages = "pictures"\nsplits = {val = 0.2}\n'
        '[tasks.segmentation]\nkind = "labels"\nfolder = "labels/people"  # kept\nclasses = ["a", "b"]'
    )
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(BuildError, match="states no camera, and depth and normals need one"):
        describe(tmp_path, stated=Stated())
    asked: list[str] = []

    def first_size(images: str) -> tuple[int, int]:
        asked.append(images)
        return 48, 64

    described = describe_folder(tmp_path, NYU_TASKS, Stated(camera=CAMERA), first_size=first_size)
    described.write()
    found = read_description(tmp_path)
    assert (tmp_path / DESCRIPTION).read_text().startswith(text)
    assert asked == ["pictures"]
    assert found.camera == SharedCamera(CAMERA.intrinsics, (48, 64))
    assert list(found.tasks) == ["segmentation", "depth", "normals"]
    assert found.tasks["segmentation"].classes == ("a", "b")  # type: ignore[attr-defined]


def test_a_description_with_a_camera_of_each_frame_needs_no_other(tmp_path: Path) -> None:
    (tmp_path / DESCRIPTION).write_text(
        'licence = "CC0"\nredistributable = true\ncamera = "cameras"\nsplits = {val = 0.2}\n'
        '[tasks.depth]\nkind = "depth"\nfolder = "depth"\nrange_m = [0.1, 5.0]\n'
    )
    described = describe(tmp_path, only("depth", "normals"), Stated())
    assert described.description.camera == CameraFiles("cameras")
    assert described.text is not None
    with pytest.raises(BuildError, match="states another camera"):
        describe(tmp_path, only("depth"), Stated(camera=CAMERA))


def test_a_file_that_cannot_take_another_table_is_left_as_it_is(tmp_path: Path) -> None:
    text = (
        'licence = "CC0"\nredistributable = true\ncamera = "cameras"\nsplits = {val = 0.2}\n'
        'tasks = {depth = {kind = "depth", folder = "depth", range_m = [0.1, 5.0]}}\n'
    )
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(BuildError, match=r"dataset\.toml cannot be completed.*Add its tasks by hand") as caught:
        describe(tmp_path, only("normals"), Stated())
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / DESCRIPTION).read_text() == text
