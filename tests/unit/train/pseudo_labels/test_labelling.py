"""A run over a folder: people's labels stay, done frames are skipped, whatever stops it leaves a consistent folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mtl.datasets.folder.camera import SharedCamera
from mtl.datasets.folder.source import FolderRequest
from mtl.pseudo_labels import labelling as module
from mtl.pseudo_labels import records as records_module
from mtl.pseudo_labels.dataset_file import Stated
from mtl.pseudo_labels.labelling import Labelled, LabelOptions, label_folder
from mtl.pseudo_labels.records import RECORDS, Records, locked
from mtl.pseudo_labels.trust import Thresholds

from edge_mtl.bundle import Bundle
from edge_mtl.engine import Engine
from edge_mtl.errors import BuildError, FrameError
from edge_mtl.image.encoding import encode_image
from tests.pseudo_folders import STATED, painted, painted_bundle, write_images

ALL = Thresholds(confidence=0.0, geometry_confidence=0.0)
OPTIONS = LabelOptions(thresholds=ALL, backend="onnxruntime", threads=1)
TASKS = ("segmentation", "depth", "normals")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return painted_bundle(tmp_path_factory.mktemp("bundle") / "painted")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path, "a", "b", "deep/c", "deep/d")


@pytest.fixture
def label(bundle: Bundle, folder: Path) -> Callable[..., Labelled]:
    def run(*, stated: Stated | None = STATED, on_skip: Any = None, progress: Any = None, **changes: Any) -> Labelled:
        options = replace(OPTIONS, **changes)
        return label_folder(folder, bundle, options, stated=stated, on_skip=on_skip, progress=progress)

    return run


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the frames that an engine was asked about."""
    seen: list[tuple[int, ...]] = []
    predict = Engine.predict

    def counted(self: Engine, frame: np.ndarray, **options: Any) -> Any:
        seen.append(frame.shape)
        return predict(self, frame, **options)

    monkeypatch.setattr(Engine, "predict", counted)
    return seen


def test_the_folder_data_set_reads_what_was_written(label: Callable[..., Labelled], folder: Path) -> None:
    labelled = label()
    assert labelled.written == dict.fromkeys(TASKS, ("a", "b", "deep/c", "deep/d"))
    frames = [
        frame
        for split in ("train", "val")
        if labelled.description.splits.assigned(folder, ["a", "b", "deep/c", "deep/d"]).stems[split]  # type: ignore[index]
        for frame in FolderRequest(str(folder), split).open()  # type: ignore[arg-type, attr-defined]
    ]
    assert len(frames) == 4
    for frame in frames:
        assert set(frame.truths) == set(TASKS)
        assert (frame.truths["segmentation"] == 5).all()  # 2 m of 0..5 m in 13 classes
        np.testing.assert_allclose(frame.truths["depth"], 2.015, atol=0.03)
        np.testing.assert_allclose(
            frame.truths["normals"], np.broadcast_to([0, 0, -1], frame.truths["normals"].shape), atol=0.02
        )
    entry = Records.open(folder).entry("depth", "deep/c")
    assert entry is not None
    assert (entry.file, entry.kept) == ("depth/deep/c.png", 1.0)


def test_a_second_run_asks_the_engine_nothing(label: Callable[..., Labelled], folder: Path, predicted: list[Any]) -> None:
    label()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert len(predicted) == 8  # each image and its mirror image
    predicted.clear()
    again = label(stated=None)
    assert again.plan.jobs == ()
    assert {task: len(stems) for task, stems in again.plan.done.items()} == dict.fromkeys(TASKS, 4)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before


def test_labels_of_people_are_left_alone_and_counted(label: Callable[..., Labelled], folder: Path) -> None:
    for name in ("masks/a.png", "depth/b.npy", "normals/deep/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"made by hand")
    labelled = label()
    assert {task: [path.relative_to(folder).as_posix() for path in paths] for task, paths in labelled.plan.theirs.items()} == {
        "segmentation": ["masks/a.png"],
        "depth": ["depth/b.npy"],
        "normals": ["normals/deep/c.png"],
    }
    assert (folder / "masks/a.png").read_bytes() == b"made by hand"
    assert not (folder / "depth/b.png").exists()
    assert labelled.written["segmentation"] == ("b", "deep/c", "deep/d")


def test_a_pseudo_label_that_a_person_mended_is_theirs(label: Callable[..., Labelled], folder: Path) -> None:
    label()
    (folder / "masks/a.png").write_bytes(b"mended by hand")
    again = label(thresholds=replace(ALL, confidence=0.1))
    assert [path.name for path in again.plan.theirs["segmentation"]] == ["a.png"]
    assert (folder / "masks/a.png").read_bytes() == b"mended by hand"
    assert again.written["segmentation"] == ("b", "deep/c", "deep/d")


def test_other_thresholds_label_the_tasks_again_that_they_decide(label: Callable[..., Labelled]) -> None:
    label()
    again = label(thresholds=replace(ALL, depth_mirror=0.5))
    assert {task: len(stems) for task, stems in again.written.items()} == {"segmentation": 0, "depth": 4, "normals": 0}
    assert len(Records.open(again.description.root).runs) == 2


def test_another_image_under_the_same_name_is_labelled_again(label: Callable[..., Labelled], folder: Path) -> None:
    label()
    (folder / "images/b.png").write_bytes(encode_image(painted(4.0)))
    again = label()
    assert again.written == dict.fromkeys(TASKS, ("b",))


def test_another_camera_labels_depth_and_normals_again(label: Callable[..., Labelled], folder: Path) -> None:
    label()
    path = folder / "dataset.toml"
    path.write_text(path.read_text().replace("fx = 88.25", "fx = 90.0"))
    assert "fx = 90.0" in path.read_text()
    again = label(stated=None)
    assert {task: len(stems) for task, stems in again.written.items()} == {"segmentation": 0, "depth": 4, "normals": 4}


def test_floats_replace_the_images_of_depth_and_normals(label: Callable[..., Labelled], folder: Path) -> None:
    label()
    label(as_floats=True)
    assert {path.suffix for name in ("depth", "normals") for path in (folder / name).rglob("*") if path.is_file()} == {".npy"}
    assert {path.suffix for path in (folder / "masks").rglob("*") if path.is_file()} == {".png"}


def test_only_labels_need_no_camera_and_no_mirrored_image(
    label: Callable[..., Labelled], folder: Path, predicted: list[Any]
) -> None:
    label(tasks=("segmentation",), stated=replace(STATED, camera=None))
    assert len(predicted) == 4
    assert not (folder / "depth").exists()
    assert "camera" not in (folder / "dataset.toml").read_text()


def test_pixels_that_are_not_trusted_are_unknown(label: Callable[..., Labelled], folder: Path) -> None:
    labelled = label(thresholds=replace(ALL, confidence=1.0, geometry_confidence=1.0))
    assert {labelled.records.entry(task, "a").kept for task in TASKS} == {0.0}  # type: ignore[union-attr]
    frame = FolderRequest(str(folder), "train").open()[0]
    assert (frame.truths["segmentation"] == 255).all()
    assert not frame.truths["depth"].any()
    assert not frame.truths["normals"].any()


def test_images_that_cannot_be_read_are_named_and_left_out(label: Callable[..., Labelled], folder: Path) -> None:
    (folder / "images/b.png").write_bytes(b"no image")
    (folder / "images/deep/c.png").write_bytes(encode_image(painted(2.0, size=(64, 64))))  # not the camera's shape
    reasons: list[str] = []
    labelled = label(on_skip=reasons.append)
    assert labelled.written["depth"] == ("a", "deep/d")
    assert labelled.skipped == tuple(reasons)
    assert str(folder / "images/b.png") in reasons[0]
    assert "deep/c is 64x64" in reasons[1]


def test_no_readable_image_is_an_error(label: Callable[..., Labelled], folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(FrameError, match=r"None of the 4 images can be labelled; the first: .*a\.png"):
        label()
    assert not (folder / RECORDS).exists()
    with pytest.raises(FrameError, match=r"None of the images in .* can be read"):
        (folder / "dataset.toml").unlink()
        label(stated=replace(STATED, camera=SharedCamera(STATED.camera.intrinsics, None)))  # type: ignore[union-attr]


def test_the_first_signal_ends_the_run_after_its_image_and_the_next_run_goes_on(
    label: Callable[..., Labelled], folder: Path
) -> None:
    def stop_at_two(what: str, done: int, total: int) -> None:
        if what == "labelling" and done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    labelled = label(progress=stop_at_two)
    assert labelled.stopped
    assert labelled.written == dict.fromkeys(TASKS, ("a", "b"))
    assert set(Records.open(folder).entries["normals"]) == {"a", "b"}
    again = label()
    assert not again.stopped
    assert again.written == dict.fromkeys(TASKS, ("deep/c", "deep/d"))
    assert again.plan.done == dict.fromkeys(TASKS, ("a", "b"))


def test_a_full_disk_ends_the_run_and_what_was_written_is_recorded(
    label: Callable[..., Labelled], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = records_module.write_atomic

    def full(path: Path, payload: bytes) -> None:
        if path.match("depth/b.png"):
            raise OSError(28, "No space left on device")
        write(path, payload)

    monkeypatch.setattr(records_module, "write_atomic", full)
    with pytest.raises(BuildError, match=r"depth/b\.png cannot be written \(No space left on device\)"):
        label()
    monkeypatch.undo()
    found = Records.open(folder)
    assert set(found.entries["segmentation"]) == {"a", "b"}
    assert set(found.entries["depth"]) == {"a"}
    assert label().written["depth"] == ("b", "deep/c", "deep/d")


def test_held_out_frames_are_labelled_only_where_no_person_labelled_any(label: Callable[..., Labelled], folder: Path) -> None:
    label(stated=STATED, limit=1)
    path = folder / "dataset.toml"
    path.write_text(path.read_text().replace("val = 0.1", 'train = "train.txt"\nval = "val.txt"\ntest = "test.txt"'))
    for split, stems in {"train": "a", "val": "b\ndeep/c", "test": "deep/d"}.items():
        (folder / f"{split}.txt").write_text(stems)
    assert label(held_out="skip").plan.held_out == dict.fromkeys(TASKS, 3)
    (folder / "masks/deep").mkdir(parents=True)
    (folder / "masks/deep/c.png").write_bytes(b"made by hand")
    found = label()
    assert found.plan.held_out == {"segmentation": 2, "depth": 0, "normals": 0}
    assert found.plan.measured == ("depth", "normals")
    assert found.written == {"segmentation": (), "depth": ("b", "deep/c", "deep/d"), "normals": ("b", "deep/c", "deep/d")}
    assert label(held_out="label").written["segmentation"] == ("b", "deep/d")


def test_other_classes_than_the_bundles_are_refused_by_file_and_task(label: Callable[..., Labelled], folder: Path) -> None:
    (folder / "dataset.toml").write_text(
        'licence = "CC0"\nredistributable = true\nsplits = {val = 0.2}\n'
        '[tasks.segmentation]\nkind = "labels"\nfolder = "masks"\nclasses = ["floor", "rack"]\n'
    )
    with pytest.raises(BuildError, match=r"dataset\.toml: tasks\.segmentation has 2 classes.*lacks rack and has bed"):
        label(tasks=("segmentation",), stated=None)
    assert not (folder / "masks").exists()


@pytest.mark.parametrize("missing", ["folder", "images"])
def test_a_folder_without_images_is_named(bundle: Bundle, tmp_path: Path, missing: str) -> None:
    root = tmp_path / "data"
    if missing == "images":
        (root / "images").mkdir(parents=True)
    with pytest.raises(BuildError, match="is not a folder" if missing == "folder" else "images has no images"):
        label_folder(root, bundle, OPTIONS, stated=STATED)


def test_two_images_of_one_name_are_refused(label: Callable[..., Labelled], folder: Path) -> None:
    (folder / "images/a.jpg").write_bytes(b"")
    with pytest.raises(BuildError, match="another file has the same name but for its suffix"):
        label()


def test_another_process_at_work_is_told(label: Callable[..., Labelled], folder: Path) -> None:
    with locked(folder), pytest.raises(BuildError, match="is being labelled by another process"):
        label()


def test_an_engine_that_does_not_start_leaves_no_description(
    label: Callable[..., Labelled], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> Engine:
        raise BuildError("no engine")

    monkeypatch.setattr(module, "Engine", broken)
    with pytest.raises(BuildError, match="no engine"):
        label()
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == ["images"]
