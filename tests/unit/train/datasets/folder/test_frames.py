"""Which frames a folder gives to which split, with which truths and cameras."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.folder.index import folder_index
from mtl.datasets.folder.source import FolderRequest
from mtl.datasets.folder.splits import Shares
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.datasets.sources import data_set
from mtl.settings import DataSettings, Stage

from edge_mtl.errors import BuildError
from tests.own_folder import SIZE, scene, write_frame, write_own_folder

LISTS = {"val = 0.2\ntest = 0.2": 'train = "train.txt"\nval = "val.txt"\ntest = "test.txt"'}
CAMERAS = {
    "[camera]\nfx = 117.0\nfy = 117.0\ncx = 63.5\ncy = 47.5\nsize = [96, 128]\n": "",
    'images = "images"': 'camera = "cameras"',
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_folder(tmp_path_factory.mktemp("own"), frames=20)


def listed(root: Path, train: str, val: str, test: str) -> Path:
    for name, text in (("train", train), ("val", val), ("test", test)):
        (root / f"{name}.txt").write_text(text)
    return root


def test_frames_have_the_truths_that_there_are(own: Path) -> None:
    seen = {}
    for split in ("train", "val", "test"):
        frames = FolderRequest(str(own), split).open()  # type: ignore[arg-type]
        for index, stem in enumerate(frames.stems):
            number = int(stem[-4:])
            frame = frames[index]
            expected = (
                {"segmentation"} | ({"depth"} if number % 2 == 0 else set()) | ({"normals"} if number % 3 == 0 else set())
            )
            assert set(frame.truths) == expected == frames.known(index)
            seen[stem] = split
            image, label, depth, normals = scene(number)
            label[:4, :6], depth[-4:, -6:] = 255, 0
            np.testing.assert_array_equal(frame.image, image)
            np.testing.assert_array_equal(frame.truths["segmentation"], label)
            if "depth" in frame.truths:
                np.testing.assert_allclose(frame.truths["depth"], depth, atol=6e-4)
            if "normals" in frame.truths:
                np.testing.assert_allclose(frame.truths["normals"], normals, atol=1e-3)
            assert frame.intrinsics == (117.0, 117.0, 63.5, 47.5)
    assert len(seen) == 20
    assert set(seen.values()) == {"train", "val", "test"}


def test_requests_travel_to_worker_processes(own: Path) -> None:
    request = FolderRequest(str(own), "train", first=3)
    assert pickle.loads(pickle.dumps(request)).open().stems == request.open().stems
    assert len(request.open()) == 3
    assert set(request.open().stems) <= set(FolderRequest(str(own), "train").open().stems)


def test_a_frame_keeps_its_split_whatever_other_frames_there_are() -> None:
    shares = Shares(0.2, 0.1, seed=0)
    stems = [f"run{number // 100}/{number}" for number in range(5000)]
    counts = {split: sum(shares.of(stem) == split for stem in stems) for split in ("train", "val", "test")}
    assert counts["val"] == pytest.approx(1000, abs=100)
    assert counts["test"] == pytest.approx(500, abs=75)
    assert [shares.of(stem) for stem in ("run0/0", "run0/4", "run0/6")] == ["train", "val", "test"], "as ever"
    assert any(Shares(0.2, 0.1, seed=1).of(stem) != shares.of(stem) for stem in stems)
    together = Shares(0.2, 0.1, by="folder")
    assert all(len({together.of(stem) for stem in stems[start : start + 100]}) == 1 for start in range(0, 5000, 100))
    assert len({together.of(stem) for stem in stems}) == 3


def test_lists_say_which_frames_are_in_which_split(tmp_path: Path) -> None:
    root = listed(write_own_folder(tmp_path, frames=6, replace=LISTS), "run0/0000\nrun0/0001\n\n", "run0/0003\n", "run0/0002")
    stems = {split: FolderRequest(str(root), split).open().stems for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert stems == {"train": ("run0/0000", "run0/0001"), "val": ("run0/0003",), "test": ("run0/0002",)}
    assert folder_index(root).assigned.unlisted == ("run0/0004", "run0/0005")


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ("run0/0000\nrun0/0009", "run0/0001", r"train\.txt, line 2: there is no image run0/0009"),
        (
            "run0/0000",
            "run0/0001\nrun0/0000",
            r"val\.txt, line 2: run0/0000 is in train\.txt already; expected each frame once",
        ),
        ("", "run0/0001", "has no frame to train on: train has 0 images"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, train: str, val: str, message: str) -> None:
    root = listed(write_own_folder(tmp_path, frames=4, replace=LISTS), train, val, "run0/0002")
    with pytest.raises(BuildError, match=message):
        FolderRequest(str(root), "train").open()


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"train\.txt cannot be read.*expected the name of a frame a line"):
        FolderRequest(str(write_own_folder(tmp_path, frames=2, replace=LISTS)), "train").open()


def test_frames_of_other_sizes_have_a_scaled_camera_and_make_one_batch(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=4)
    for number in range(4, 12):
        write_frame(root, f"large/{number}", number, size=(192, 256))
    frames = FolderRequest(str(root), "train").open()
    cameras = {frame.size: frame.intrinsics for frame in (frames[index] for index in range(len(frames)))}
    assert cameras[192, 256] == (234.0, 234.0, 127.5, 95.5)
    assert cameras[SIZE] == (117.0, 117.0, 63.5, 47.5)
    plan = BatchPlan(seed=0, stage=0, size=(64, 96), batch=8, stride=4, augment=AugmentSettings())
    batch = StepBatches(FolderRequest(str(root), "train"), plan)[0]
    assert batch.image.shape == (8, 64, 96, 3)
    assert {task: tuple(target.shape) for task, target in batch.targets.items()} == {
        "segmentation": (8, 16, 24), "depth": (8, 16, 24), "normals": (8, 16, 24, 3),
    }  # fmt: skip


def test_a_batch_leaves_out_the_tasks_that_no_frame_has(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=0, replace={"val = 0.2\ntest = 0.2": "val = 0.2"})
    for number in range(12):
        write_frame(root, f"{number}", number, tasks="s")
    (root / "depth").mkdir()
    (root / "normals").mkdir()
    plan = BatchPlan(seed=0, stage=0, size=(64, 96), batch=4, stride=4, augment=AugmentSettings())
    assert set(StepBatches(FolderRequest(str(root), "train"), plan)[0].targets) == {"segmentation"}


def test_an_image_of_another_shape_than_the_calibration_is_refused(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=0, replace={"size = [96, 128]": "size = [96, 96]"})
    write_frame(root, "one", 0)
    index = folder_index(root)
    with pytest.raises(BuildError, match=r"camera\.size is 96x96, the image one is 96x128: expected the same shape"):
        index.intrinsics("one", (96, 128))


def test_without_a_size_the_camera_is_that_of_the_first_image(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=1, replace={"size = [96, 128]\n": ""})
    write_frame(root, "z/large", 1, size=(192, 256))
    index = folder_index(root)
    assert index.intrinsics("run0/0000", (96, 128))[0] == 117.0
    assert index.intrinsics("z/large", (192, 256))[0] == 234.0


def test_frames_may_have_cameras_of_their_own(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=6, replace=CAMERAS)
    (root / "cameras" / "run0").mkdir(parents=True)
    for number in range(6):
        camera = {"fx": 100.0 + number, "fy": 101.0, "cx": 60, "cy": 40}
        (root / "cameras" / "run0" / f"{number:04d}.json").write_text(json.dumps(camera))
    frames = FolderRequest(str(root), "train").open()
    assert [frames[index].intrinsics[0] - 100 for index in range(len(frames))] == [int(stem[-4:]) for stem in frames.stems]
    first = root / "cameras" / f"{frames.stems[0]}.json"
    for text, message in (('{"fx": 1}', "expected fx, fy, cx, cy in pixels"), ("{", "cannot be read"), (None, "is missing")):
        first.unlink()
        if text is not None:
            first.write_text(text)
        with pytest.raises(BuildError, match=message):
            frames[0]
        first.touch()


def test_the_camera_file_of_a_frame_may_state_the_size_that_it_is_for(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=1, replace=CAMERAS)
    (root / "cameras" / "run0").mkdir(parents=True)
    file, camera = root / "cameras" / "run0" / "0000.json", {"fx": 234.0, "fy": 234.0, "cx": 127.5, "cy": 95.5}
    index = folder_index(root)
    for size, expected in (({"width": 256, "height": 192}, (117.0, 117.0, 63.5, 47.5)), ({"width": 128, "height": 96}, None)):
        file.write_text(json.dumps({**camera, **size}))
        if expected is not None:
            assert index.intrinsics("run0/0000", (96, 128)) == expected
        else:
            with pytest.raises(BuildError, match="the camera of run0/0000: the principal point should lie"):
                index.intrinsics("run0/0000", (96, 128))
    for size, message in (
        ({"width": 256, "height": 144}, "is 144x256, the image run0/0000 is 96x128: expected the same shape"),
        ({"width": 256}, "width and height of the image in pixels, both or neither"),
        ({"width": 256, "height": "192"}, "both or neither"),
    ):
        file.write_text(json.dumps({**camera, **size}))
        with pytest.raises(BuildError, match=message):
            index.intrinsics("run0/0000", (96, 128))


def test_a_label_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=1)
    write_frame(root, "two", 1, size=(48, 64), tasks="d")
    (root / "images" / "two.png").write_bytes((root / "images" / "run0" / "0000.png").read_bytes())
    frames = FolderRequest(str(root), Shares(0.2, 0.2).of("two")).open()
    with pytest.raises(BuildError, match=r"depth/two\.png: expected 96x128, as its image is, found 48x64"):
        frames[frames.stems.index("two")]


def test_two_files_of_one_frame_and_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=6)
    np.save(root / "depth" / "run0" / "0000.npy", np.ones(SIZE, np.float32))
    with pytest.raises(
        BuildError, match=r"0000\.png: another file has the same name but for its suffix; expected one.*validate"
    ):
        FolderRequest(str(root), "train").open()
    text = (root / "dataset.toml").read_text()
    (root / "dataset.toml").write_text(text.replace('folder = "depth"', 'folder = "depths"'))
    with pytest.raises(BuildError, match=r"tasks\.depth\.folder: there is no folder .*depths"):
        FolderRequest(str(root), "train").open()
    (root / "dataset.toml").write_text(text.replace('images = "images"', 'images = "pictures"'))
    with pytest.raises(BuildError, match=r"pictures holds no frames: no such folder"):
        FolderRequest(str(root), "train").open()


def test_images_without_a_label_are_left_out_until_they_have_one(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=12)
    settings = DataSettings(kind="folder", root=str(root))
    folder = data_set(settings)
    stage = Stage(height=32, width=32)
    before = len(folder.train_frames(settings, stage).open())
    assert folder.train_count(settings) == before
    write_frame(root, "bare0", 40, tasks="")
    write_frame(root, "bare1", 41, tasks="")
    write_frame(root, "bare2", 42, tasks="")
    bare = [stem for stem in ("bare0", "bare1", "bare2") if Shares(0.2, 0.2).of(stem) == "train"]
    assert bare
    assert len(folder.train_frames(settings, stage).open()) == before
    write_frame(root, bare[0], 40, tasks="d")
    assert len(folder.train_frames(settings, stage).open()) == before + 1
    assert folder.train_count(settings) == before + 1


def test_who_asks_often_does_not_look_at_the_files_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_own_folder(tmp_path, frames=4)
    first = folder_index(root)
    looked: list[Path] = []
    stat = Path.stat

    def counted(path: Path, **options: bool) -> os.stat_result:
        looked.append(path)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counted)
    assert folder_index(root, look_again=False) is first
    assert not [path for path in looked if root in path.parents]
    assert folder_index(root) is first
    assert [path for path in looked if root in path.parents]


def test_the_data_set_says_what_it_is(own: Path) -> None:
    settings = DataSettings(kind="folder", root=str(own))
    folder = data_set(settings)
    assert (folder.title(settings), folder.licence(settings)) == ("a small warehouse", "made for this example")
    assert folder.redistributable(settings)
    assert folder.one_camera(settings)
    assert not folder.validates_on_test(settings)
    train, val, test = (len(folder_index(own).labelled[split]) for split in ("train", "val", "test"))
    assert folder.counts(settings) == f"{train} training, {val} validation, {test} test"
    stage = Stage(height=32, width=32, train=2)
    assert len(folder.train_frames(settings, stage).open()) == 2
    assert len(folder.held_out_frames(settings, "test").open()) == test


def test_without_test_frames_the_validation_frames_are_tested(tmp_path: Path) -> None:
    root = write_own_folder(tmp_path, frames=12, replace={"test = 0.2\n": ""})
    settings = DataSettings(kind="folder", root=str(root))
    folder = data_set(settings)
    assert folder.validates_on_test(settings)
    stems = [folder.held_out_frames(settings, split).open().stems for split in ("val", "test")]  # type: ignore[attr-defined]
    assert stems[0] == stems[1] != ()
    assert "(the same)" in folder.counts(settings)


def test_frames_without_labels_are_trained_on_where_that_is_wanted(tmp_path: Path) -> None:
    own = write_own_folder(tmp_path / "own", frames=8)
    listed = FolderRequest(str(own), "train").open().stems
    for stem in listed[:2]:
        for path in [path for path in own.rglob(f"{Path(stem).name}.*") if "images" not in path.parts]:
            path.unlink()
    data = DataSettings(kind="folder", root=str(own), unlabelled=True)
    stage = Stage(height=96, width=128, steps=1)
    known = data_set(data)
    assert known.train_frames(DataSettings(kind="folder", root=str(own)), stage).open().stems == listed[2:]  # type: ignore[attr-defined]
    frames = known.train_frames(data, stage).open()
    assert frames.stems == listed  # type: ignore[attr-defined]
    assert known.train_count(data) == len(listed)
    assert not frames[0].truths
    plan = BatchPlan(seed=0, stage=0, size=(96, 128), batch=2, stride=4, augment=AugmentSettings(mix=1.0))
    batches = [StepBatches(known.train_frames(data, stage), plan)[step] for step in range(len(listed))]
    assert all(set(batch.targets) <= set(frames.tasks) for batch in batches)
