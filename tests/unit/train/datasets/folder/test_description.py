"""dataset.toml: what it says, and every refusal with file, key, what was expected and what was found."""

from __future__ import annotations

from pathlib import Path

import pytest
from mtl.config import ConfigError, apply_overrides, parse_config
from mtl.datasets.folder.camera import CameraFiles, NoCamera, SharedCamera
from mtl.datasets.folder.description import FolderDescription, read_description
from mtl.datasets.folder.splits import Lists, Shares
from mtl.datasets.folder.truth_files import UNDECLARED, DepthFiles, MaskFiles, NormalFiles

from edge_mtl.errors import BuildError
from tests.own_folder import CLASSES, TOML


def described(folder: Path, *changes: tuple[str, str]) -> FolderDescription:
    """dataset.toml with changes of its text, read."""
    text = TOML
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "dataset.toml").write_text(text, encoding="utf-8")
    return read_description(folder)


def test_a_description_says_all_that_training_needs(tmp_path: Path) -> None:
    found = described(tmp_path)
    assert (found.title, found.licence, found.redistributable) == ("a small warehouse", "made for this example", True)
    assert found.camera == SharedCamera((117.0, 117.0, 63.5, 47.5), (96, 128))
    assert found.splits == Shares(0.2, 0.2)
    assert list(found.tasks) == ["segmentation", "depth", "normals"]
    assert found.tasks["segmentation"].classes == CLASSES
    assert found.tasks["depth"].range_m == (0.3, 10.0)
    masks = found.files["segmentation"]
    assert isinstance(masks, MaskFiles)
    assert masks.table[:20].tolist() == list(range(20))
    assert (masks.table[20], masks.table[255]) == (UNDECLARED, 255)
    assert found.files["depth"] == DepthFiles("depth", 0.001, (0.3, 10.0))
    assert found.files["normals"] == NormalFiles("normals")


def test_optional_keys_are_read(tmp_path: Path) -> None:
    classes = 'classes = ["a", "b", "c"]\ncolours = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]\nignore_in_mean = ["c"]\nvoid = [0]\n'
    values = 'values = {7 = "a", 8 = "b", 9 = "c", 10 = "a"}'
    before = TOML[TOML.index("classes = ") : TOML.index("\n\n[tasks.depth]")]
    found = described(
        tmp_path,
        (before, classes + values),
        ('folder = "normals"', 'folder = "normals"\naxes = "+x-y-z"'),
        ("val = 0.2\ntest = 0.2", 'val = 0.2\nseed = 3\nby = "folder"'),
        ('title = "a small warehouse"\n', ""),
        ('images = "images"\n', ""),
    )
    spec, masks, normals = found.tasks["segmentation"], found.files["segmentation"], found.files["normals"]
    assert (spec.colours[2], spec.ignored) == ((7, 8, 9), (2,))
    assert isinstance(masks, MaskFiles)
    assert [int(masks.table[index]) for index in (0, 1, 7, 8, 9, 10, 255)] == [255, UNDECLARED, 0, 1, 2, 0, 255]
    assert isinstance(normals, NormalFiles)
    assert str(normals.axes) == "+x-y-z"
    assert found.splits == Shares(0.2, 0.0, 3, "folder")
    assert (found.title, found.images) == (tmp_path.name, "images")


def test_cameras_of_frames_and_lists_of_splits_are_read(tmp_path: Path) -> None:
    camera = TOML[TOML.index("[camera]") : TOML.index("[splits]")]
    found = described(
        tmp_path,
        (camera, ""),
        ('images = "images"', 'camera = "cameras"'),
        ("val = 0.2\ntest = 0.2", 'train = "train.txt"\nval = "val.txt"'),
    )
    assert found.camera == CameraFiles("cameras")
    assert found.splits == Lists("train.txt", "val.txt")
    assert not found.splits.tests


def test_labels_alone_need_no_camera(tmp_path: Path) -> None:
    camera = TOML[TOML.index("[camera]") : TOML.index("[splits]")]
    metric = TOML[TOML.index("[tasks.depth]") :]
    assert described(tmp_path, (camera, ""), (metric, "")).camera == NoCamera()


CLASSES_LINE = TOML[TOML.index("classes = ") : TOML.index("\n\n[tasks.depth]")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('licence = "made for this example"\n', "", "licence: is missing; expected the terms"),
        ('licence = "made for this example"', 'licence = ""', "licence: expected the terms"),
        ("redistributable = true\n", "", "redistributable: is missing; expected true or false"),
        ("redistributable = true", 'redistributable = "yes"', "redistributable: expected true or false.*found 'yes'"),
        ("redistributable = true", "redistributible = true", "redistributable: is missing"),
        ('images = "images"', 'image = "images"', "image: is not a key of this file: did you mean 'images'"),
        ('images = "images"', 'images = "a\\u0000b"', r"images: expected a folder beside dataset.toml"),
        ('images = "images"', 'images = "../other"', r"images: expected a folder beside dataset.toml, without '..'"),
        ('images = "images"', 'images = "/data"', "images: expected a folder beside"),
        ('images = "images"', "images = 5", "images: expected a folder beside dataset.toml, found 5"),
        ("fx = 117.0\n", "", "camera.fx: is missing"),
        ("fx = 117.0", "fx = -1", "camera: expected fx, fy, cx, cy in pixels, fx and fy above 0, found"),
        ("fx = 117.0", 'fx = "wide"', "camera: expected fx, fy, cx, cy in pixels"),
        ("size = [96, 128]", "size = [96.5, 128]", r"camera.size: expected \[height, width\] in pixels, found"),
        ("size = [96, 128]", "size = [96]", "camera.size: expected"),
        ("size = [96, 128]", "sise = [96, 128]", "camera.sise: is not a key of camera: did you mean 'size'"),
        ("val = 0.2", "val = 1.2", "splits.val: expected a share of the frames above 0 and below 1"),
        ("val = 0.2", "val = 0.9", "splits.val: val and test should leave frames to train on"),
        ("val = 0.2", 'val = 0.2\nby = "day"', "splits.by: expected one of frame, folder, found 'day'"),
        ("val = 0.2", "val = 0.2\nseed = -1", "splits.seed: expected a whole number from 0"),
        ("val = 0.2\ntest = 0.2", 'train = "train.txt"', "splits.val: is missing; expected a text file"),
        ("val = 0.2", 'val = "/lists/val.txt"\ntrain = "t"', "splits.test: expected a text file of frames"),
        ("[tasks.segmentation]", "[tasks.Segmentation]", "tasks.Segmentation: expected a name of a task"),
        ('kind = "labels"', 'kind = "lane"', "kind: expected one of labels, depth, normals, boxes, class, found 'lane'"),
        ('folder = "masks"\n', "", "tasks.segmentation.folder: is missing"),
        (CLASSES_LINE, 'classes = ["one"]', "tasks.segmentation.classes: expected a list of 2 to 255 different names"),
        (CLASSES_LINE, 'classes = ["a", "b", "a"]', "tasks.segmentation.classes: .* 'a' twice"),
        (CLASSES_LINE, 'classes = ["a", ""]', "tasks.segmentation.classes: expected a list"),
        (CLASSES_LINE, 'classes = ["a", "b"]\ncolours = [[0, 0, 0]]', r"tasks.segmentation: colours of segmentation should be"),
        (CLASSES_LINE, 'classes = ["a", "b"]\nignore_in_mean = ["c"]', "ignore_in_mean of segmentation should name some"),
        (CLASSES_LINE, 'classes = ["a", "b"]\nvalues = {7 = "c"}', "tasks.segmentation.values.7: expected one of the classes"),
        (CLASSES_LINE, 'classes = ["a", "b"]\nvalues = {x = "a"}', "segmentation.values.x: expected an index of 0 to 254"),
        (CLASSES_LINE, 'classes = ["a", "b"]\nvalues = {7 = "a"}', "values: expected an index for every class.* b"),
        (CLASSES_LINE, 'classes = ["a", "b"]\nvoid = [0]', "tasks.segmentation.void: 0 is the index of the class 'a' too"),
        (CLASSES_LINE, 'classes = ["a", "b"]\nvoid = [256]', "tasks.segmentation.void: expected a list of indices of 0 to 255"),
        (CLASSES_LINE, 'classes = ["a", "b"]\nvoids = [3]', "tasks.segmentation.voids: is not a key .* did you mean 'void'"),
        ("scale_m = 0.001", "scale_m = 0", "tasks.depth.scale_m: expected metres a unit"),
        ("range_m = [0.3, 10.0]\n", "", "tasks.depth.range_m: is missing; expected .nearest, farthest."),
        ("range_m = [0.3, 10.0]", "range_m = [10.0, 0.3]", "tasks.depth.range_m: expected .nearest, farthest. in metres"),
        ('folder = "normals"', 'folder = "normals"\naxes = "+x+x-z"', "tasks.normals.axes: expected axes written like"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BuildError, match=message) as caught:
        described(tmp_path, (old, new))
    assert str(caught.value).startswith(str(tmp_path / "dataset.toml"))
    assert "\n" not in str(caught.value)


def test_depth_without_a_camera_is_refused(tmp_path: Path) -> None:
    camera = TOML[TOML.index("[camera]") : TOML.index("[splits]")]
    with pytest.raises(BuildError, match=r"camera: is missing; expected a table \[camera\].* since depth and normals need it"):
        described(tmp_path, (camera, ""))


def test_a_folder_without_a_description_or_with_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"dataset\.toml is not there.*own-data\.md has the layout"):
        read_description(tmp_path)
    (tmp_path / "dataset.toml").write_text("title = ")
    with pytest.raises(BuildError, match=r"dataset\.toml is not TOML"):
        read_description(tmp_path)


def test_settings_take_all_tasks_of_the_folder_where_none_is_named(tmp_path: Path) -> None:
    described(tmp_path)
    own = {"data.kind": "folder", "data.root": f"'{tmp_path}'"}
    assert parse_config(apply_overrides({}, {**own, "model.tasks": "[]"})).model.tasks == ("segmentation", "depth", "normals")
    assert parse_config(apply_overrides({}, {**own, "model.tasks": "['depth']"})).model.tasks == ("depth",)
    with pytest.raises(ConfigError, match=r"model\.tasks should be some of segmentation, depth, normals, found \['lane'\]"):
        parse_config(apply_overrides({}, {**own, "model.tasks": "['lane']"}))


def test_settings_of_a_folder_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"data\.root is data/rooms.*name your own folder"):
        parse_config(apply_overrides({}, {"data.kind": "folder"}))
    described(tmp_path)
    aside = {"data.kind": "folder", "data.root": f"'{tmp_path}'", "data.validation_from_train": "3"}
    with pytest.raises(ConfigError, match=r"validation_from_train is for data.kind \"nyuv2\"; a folder has val in \[splits\]"):
        parse_config(apply_overrides({}, aside))
