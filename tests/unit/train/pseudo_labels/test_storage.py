"""What is written is read back by the folder data set as it was, whatever indices, units and axes the data set has."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mtl.datasets.folder.description import read_description
from mtl.datasets.nyuv2.axes import NormalAxes
from mtl.pseudo_labels.storage import Storage, storage_of

from edge_mtl.errors import BuildError
from edge_mtl.tasks import KINDS, VOID, TaskSpec

HEAD = 'licence = "none needed"\nredistributable = true\ncamera = "cameras"\nsplits = {val = 0.1}\n'
CLASSES = ["floor", "wall", "door"]
SIZE = (4, 6)


def stored_and_read(
    root: Path, spec: TaskSpec, table: str, truth: np.ndarray, *, as_floats: bool = False
) -> tuple[Storage, np.ndarray]:
    """Write a truth into a data set whose task has the lines `table`, and read it as training does."""
    (root / "dataset.toml").write_text(f"{HEAD}[tasks.{spec.name}]\nkind = '{spec.kind}'\nfolder = 'labels'\n{table}\n")
    description = read_description(root)
    files = description.files[spec.name]
    storage = storage_of(spec, files, description.tasks[spec.name], as_floats=as_floats)
    path = root / storage.file("a/b")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(storage.encode(storage.stored(truth)))
    assert storage.file("a/b") in storage.places("a/b")
    return storage, files.truth(files.stored(path), path)


def labels_spec(classes: list[str]) -> TaskSpec:
    return KINDS["labels"].spec("lane", {"classes": classes})


LABELS = np.array([[0, 1, 2, VOID, 2, 1]] * SIZE[0], np.uint8)


@pytest.mark.parametrize(
    ("classes", "values", "in_file"),
    [
        (CLASSES, "", [0, 1, 2, 255]),
        (["door", "floor", "wall"], "", [1, 2, 0, 255]),
        (CLASSES, "values = {7 = 'floor', 9 = 'floor', 3 = 'wall', 200 = 'door'}", [7, 3, 200, 255]),
    ],
)
def test_classes_go_into_the_indices_of_the_data_set(
    tmp_path: Path, classes: list[str], values: str, in_file: list[int]
) -> None:
    storage, found = stored_and_read(tmp_path, labels_spec(CLASSES), f"classes = {classes}\n{values}", LABELS)
    names = np.array([*classes, *[""] * 253])
    names[VOID] = "void"
    ours = np.array([*CLASSES, *[""] * 253])
    ours[VOID] = "void"
    assert (names[found] == ours[LABELS]).all()
    indices = np.array([*in_file[:3], *[255] * 253])[LABELS]
    assert (read_description(tmp_path).files["lane"].stored(tmp_path / "labels/a/b.png") == indices).all()
    assert storage.known(LABELS).mean() == pytest.approx(5 / 6)
    assert storage.classes(LABELS) == {"floor": 0.166667, "wall": 0.333333, "door": 0.333333}


def test_a_mask_has_the_colours_of_its_classes_for_people(tmp_path: Path) -> None:
    stored_and_read(tmp_path, labels_spec(CLASSES), f"classes = {CLASSES}", LABELS)
    seen = cv2.imread(str(tmp_path / "labels/a/b.png"))[..., ::-1]
    palette = labels_spec(CLASSES).palette  # type: ignore[attr-defined]
    assert (seen[0, :3] == palette).all()
    assert (seen[0, 3] == 0).all()


@pytest.mark.parametrize(
    ("theirs", "words"),
    [(["floor", "wall", "door", "rack"], "4 classes.*lacks rack"), (["floor", "wall", "gate"], "lacks gate and has door")],
)
def test_other_classes_are_refused_with_their_names(tmp_path: Path, theirs: list[str], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        stored_and_read(tmp_path, labels_spec(CLASSES), f"classes = {theirs}", LABELS)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    depth = KINDS["depth"].spec("lane", {"range_m": [0.3, 10.0]})
    (tmp_path / "dataset.toml").write_text(f"{HEAD}[tasks.lane]\nkind = 'labels'\nfolder = 'labels'\nclasses = {CLASSES}\n")
    description = read_description(tmp_path)
    with pytest.raises(BuildError, match=r"tasks\.lane is of the kind 'labels', but of the kind 'depth' in the bundle"):
        storage_of(depth, description.files["lane"], description.tasks["lane"], as_floats=False)


DEPTH = np.array([[0.0, 0.31, 1.23456, 9.99, 0.29, 10.1]] * SIZE[0], np.float32)


@pytest.mark.parametrize(
    ("scale", "as_floats", "suffix", "tolerance"),
    [
        ("scale_m = 0.001", False, ".png", 0.0005),
        ("", False, ".npy", 0.0),
        ("scale_m = 0.001", True, ".npy", 0.0),
        ("scale_m = 0.01", False, ".png", 0.005),
    ],
)
def test_depth_is_stored_as_the_data_set_says_and_unknown_outside_its_range(
    tmp_path: Path, scale: str, as_floats: bool, suffix: str, tolerance: float
) -> None:
    spec = KINDS["depth"].spec("depth", {"range_m": [0.0, 20.0]})
    storage, found = stored_and_read(tmp_path, spec, f"{scale}\nrange_m = [0.3, 10.0]", DEPTH, as_floats=as_floats)
    assert storage.suffix == suffix
    np.testing.assert_allclose(found[0, 1:4], DEPTH[0, 1:4], atol=tolerance + 1e-6)
    assert (found[:, [0, 4, 5]] == 0).all()
    assert (storage.known(storage.stored(DEPTH)) == (found > 0)).all()


def test_depth_beyond_what_sixteen_bits_hold_is_unknown(tmp_path: Path) -> None:
    spec = KINDS["depth"].spec("depth", {"range_m": [0.0, 100.0]})
    far = np.array([[6.5, 6.6, 50.0]], np.float32)
    storage, found = stored_and_read(tmp_path, spec, "scale_m = 0.0001\nrange_m = [0.3, 100.0]", far)
    np.testing.assert_allclose(found, [[6.5, 0, 0]], atol=1e-4)
    assert storage.known(storage.stored(far)).tolist() == [[True, False, False]]


@pytest.mark.parametrize("axes", ["+x+y+z", "+x-y-z", "-z+x-y"])
@pytest.mark.parametrize("as_floats", [False, True])
def test_normals_are_stored_in_the_axes_of_the_data_set(tmp_path: Path, axes: str, as_floats: bool) -> None:
    normals = np.random.default_rng(3).normal(size=(*SIZE, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    normals[0, 0] = 0
    spec = KINDS["normals"].spec("normals", {})
    storage, found = stored_and_read(tmp_path, spec, f"axes = '{axes}'", normals, as_floats=as_floats)
    assert storage.suffix == (".npy" if as_floats else ".png")
    np.testing.assert_allclose(found, normals, atol=1e-6 if as_floats else 0.006)
    assert (found[0, 0] == 0).all()
    if as_floats and axes == "-z+x-y":
        on_disk = np.load(tmp_path / "labels/a/b.npy")
        np.testing.assert_allclose(NormalAxes.parse(axes).apply(on_disk), normals, atol=1e-6)
        assert not np.allclose(on_disk, normals)
