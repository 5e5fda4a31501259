"""An NYUv2 folder is read whatever its dtypes and axes, nothing wrong in it goes unnamed, and no split leaks."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import prepare_nyuv2
import pytest
import validate_dataset
from mtl.config import ConfigError, apply_overrides, parse_config
from mtl.datasets.augment import whole_view
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.datasets.nyuv2 import DatasetError, DatasetMissing, NyuRequest
from mtl.datasets.nyuv2.axes import NormalAxes, detect_axes
from mtl.datasets.nyuv2.check import inspect
from mtl.datasets.nyuv2.frames import set_aside
from mtl.datasets.nyuv2.layout import FRAMES, frame_path, intrinsics_at
from mtl.datasets.sources import held_out_frames, train_frames
from mtl.datasets.surface import normals_of_depth
from mtl.settings import DataSettings, Stage

from edge_mtl.tasks import NYU13_CLASSES, BoxTruth
from tests.nyu_files import SIZE, box_frame, stored_normals, write_folder
from tests.nyu_frames import view_arrays

pytestmark = pytest.mark.training

SIGNS = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
STAGE = Stage(height=32, width=64, steps=4, batch=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored with y up and z towards the camera; read it, never change it."""
    return write_folder(tmp_path_factory.mktemp("nyu") / "nyuv2", axes=NormalAxes((0, 1, 2), (1, -1, -1)))


@pytest.fixture
def own_folder(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "own"))


def data(root: Path, **changes: object) -> DataSettings:
    return DataSettings(kind="nyuv2", root=str(root), **changes)  # type: ignore[arg-type]


def same_frame(found, expected) -> None:  # type: ignore[no-untyped-def]
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.truths["segmentation"], expected.truths["segmentation"])
    np.testing.assert_allclose(found.truths["depth"], expected.truths["depth"], rtol=1e-3)
    np.testing.assert_allclose(found.truths["normals"], expected.truths["normals"], atol=2e-3)


@pytest.mark.parametrize(
    "kinds",
    [
        {},
        {"image": "float32", "label": "float32", "depth": "float32", "normal": "float32"},
        {"image": "uint8", "label": "uint8", "depth": "float16", "normal": "float16"},
        {"label": "int8"},
        {"label": "int64", "depth": ">f8"},
    ],
    ids=["float64", "float32", "small", "int8", "big-endian"],
)
def test_frames_are_the_same_whatever_the_dtypes(tmp_path: Path, kinds: dict[str, str]) -> None:
    root = write_folder(tmp_path / "nyuv2", kinds=kinds)
    for part, first in (("train", 0), ("val", 100)):
        source = NyuRequest(str(root), part).open(workers=2, progress=True)  # type: ignore[arg-type]
        for index, frame in enumerate(source[index] for index in range(len(source))):
            assert [a.dtype for a in (frame.image, *frame.truths.values())] == ["u1", "u1", "f4", "f4"]
            same_frame(frame, box_frame(index + first))


def test_objects_are_there_where_they_are_asked_for(own_folder: Path) -> None:
    source = NyuRequest(str(own_folder), "train", tasks=("objects", "depth")).open()
    assert tuple(source.tasks) == tuple(source[0].truths) == ("depth", "objects")
    assert source.truth_notes["objects"].pseudo
    names, labels = source.tasks["objects"].classes, NyuRequest(str(own_folder), "train").open()[0].truths["segmentation"]
    assert not {"wall", "floor", "ceiling"} & set(names)
    beds, windows = ((labels == NYU13_CLASSES.index(name)) for name in ("bed", "window"))
    expected = {name: outline(mask) for name, mask in (("bed", beds), ("window", windows)) if mask.any()}
    truth = source[0].truths["objects"]
    assert expected
    found = {names[index]: tuple(box) for index, box in zip(truth.classes, truth.xyxy, strict=True)}
    assert found == expected
    assert not truth.crowd.any()


def test_objects_reach_a_run_whose_model_has_them(own_folder: Path) -> None:
    changes = {"data.kind": "nyuv2", "data.root": str(own_folder), "model.tasks": "['depth', 'objects']"}
    settings = parse_config(apply_overrides({}, changes))
    assert settings.data.tasks == ("segmentation", "depth", "normals", "objects")
    for split in (train_frames(settings.data, STAGE), held_out_frames(settings.data, "test")):
        assert isinstance(split.open()[0].truths["objects"], BoxTruth)


def outline(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The box around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5


@pytest.mark.parametrize("signs", SIGNS, ids=[str(NormalAxes((0, 1, 2), signs)) for signs in SIGNS])
def test_every_combination_of_signs_is_detected_and_undone(tmp_path: Path, signs: tuple[int, int, int]) -> None:
    root = write_folder(tmp_path / "nyuv2", axes=NormalAxes((0, 1, 2), signs))
    same_frame(NyuRequest(str(root), "train").open()[1], box_frame(1))
    assert json.loads((root / "dataset.json").read_text())["axes"] == str(NormalAxes((0, 1, 2), signs))


def test_all_48_signed_permutations_are_told_apart() -> None:
    frames = [box_frame(number) for number in range(4)]
    references = [normals_of_depth(frame.truths["depth"], frame.intrinsics) for frame in frames]
    for order, signs in itertools.product(itertools.permutations((0, 1, 2)), SIGNS):
        axes = NormalAxes(order, signs)  # type: ignore[arg-type]
        found = detect_axes(zip([stored_normals(frame.truths["normals"], axes) for frame in frames], references, strict=True))
        assert found.axes == axes
        assert found.cosine > 0.9
        assert found.cosine - found.runner_up_cosine > 0.1
        assert NormalAxes.parse(str(axes)) == axes


def test_axes_are_not_guessed_where_the_frames_cannot_tell() -> None:
    random = np.random.default_rng(0).normal(size=(*SIZE, 3)).astype(np.float32)
    random /= np.linalg.norm(random, axis=-1, keepdims=True)
    frame = box_frame(0)
    reference = normals_of_depth(frame.truths["depth"], frame.intrinsics)
    with pytest.raises(DatasetError, match="unclear"):
        detect_axes([(random, reference)])
    frontal = np.zeros((*SIZE, 3), np.float32)
    frontal[..., 2] = -1
    with pytest.raises(DatasetError, match=r"unclear.*adopt"):
        detect_axes([(frontal, frontal)])
    with pytest.raises(DatasetError, match="cannot be told"):
        detect_axes([(np.zeros_like(frontal), frontal)])


def test_normals_of_a_plane_are_exact_and_face_the_camera() -> None:
    normal = np.array([0.3, -0.5, -0.8]) / np.linalg.norm([0.3, -0.5, -0.8])
    camera = intrinsics_at(SIZE)
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([(u - camera[2]) / camera[0], (v - camera[3]) / camera[1], np.ones_like(u)], -1)
    depth = (-2.0 / (rays @ normal)).astype(np.float32)
    depth[(depth < 0) | (depth > 12)] = 0
    depth[10:14, 20:30] = np.nan
    found = normals_of_depth(depth, camera)
    valid = (found != 0).any(-1)
    assert not valid[10:14, 20:30].any()
    assert valid.sum() > 0.95 * np.isfinite(depth).sum() - (depth == 0).sum()
    np.testing.assert_allclose(found[valid], np.broadcast_to(normal, found.shape)[valid], atol=2e-3)


def test_the_known_intrinsics_are_those_of_the_study() -> None:
    assert intrinsics_at((288, 384)) == (355.2, 350.4, 195.5, 141.5)
    assert intrinsics_at((144, 192))[:2] == pytest.approx((177.6, 175.2))


def test_an_unwritable_folder_is_read_all_the_same(own_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:  # type: ignore[no-untyped-def]
    def full(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("mtl.datasets.nyuv2.frames.write_description", full)
    same_frame(NyuRequest(str(own_folder), "val").open()[0], box_frame(100))
    assert "detected at every start" in caplog.text
    assert not (own_folder / "dataset.json").exists()


def test_a_request_travels_to_another_process_and_files_are_opened_late(own_folder: Path) -> None:
    source = pickle.loads(pickle.dumps(NyuRequest(str(own_folder), "train"))).open()
    frame_path(own_folder, "train", "depth", 2).write_bytes(b"no array")
    same_frame(source[1], box_frame(1))
    with pytest.raises(DatasetError, match=r"train/depth/2\.npy cannot be read"):
        source[2]


@pytest.mark.parametrize("root", ["nowhere", "empty"])
def test_missing_data_says_where_it_comes_from_and_how_to_convert_it(tmp_path: Path, root: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetMissing) as failure:
        held_out_frames(data(tmp_path / root), "test").open()
    words = ("tanganke/nyuv2", "nyu_depth_v2_labeled.mat", "prepare_nyuv2.py", "licence", str(tmp_path / root))
    assert all(word in str(failure.value) for word in words)
    assert "\n" not in str(failure.value)


def test_the_default_folder_is_data_nyuv2() -> None:
    for ask in (lambda one: train_frames(one, STAGE), lambda one: held_out_frames(one, "test")):
        assert ask(DataSettings(kind="nyuv2")).root == "data/nyuv2"
        assert ask(DataSettings()).root == "data/rooms"
        assert ask(DataSettings(kind="nyuv2", root="elsewhere")).root == "elsewhere"


def test_a_gap_in_the_numbers_is_named(own_folder: Path) -> None:
    frame_path(own_folder, "train", "label", 1).unlink()
    with pytest.raises(DatasetError, match=r"train/label/1\.npy is missing"):
        train_frames(data(own_folder), STAGE).open()


BROKEN = {
    "image of 0..255 floats": ("image", lambda a: a * 255, "within 0 to 1"),
    "NaN in the image": ("image", lambda a: np.where(a > 0.9, np.nan, a), "within 0 to 1"),
    "channels first": ("image", lambda a: np.moveaxis(a, -1, 0), "expected 48 x 64 x 3, found 3 x 48 x 64"),
    "another size": ("depth", lambda a: a[:40], "found 40 x 64"),
    "class 13": ("label", lambda a: np.where(a >= 0, 13, a), r"0 to 12, found \[13\]"),
    "fractional label": ("label", lambda a: a + 0.5, "whole numbers"),
    "millimetres": ("depth", lambda a: a * 1000, "metres"),
    "negative depth": ("depth", lambda a: a - 3, "metres"),
    "normals of 0..255": ("normal", lambda a: (a + 1) * 127.5, "length 1"),
    "objects": ("normal", lambda a: a.astype(bool), "array of numbers"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_refused_and_found_by_the_check(own_folder: Path, case: str) -> None:
    modality, spoil, message = BROKEN[case]
    NyuRequest(str(own_folder), "train").open()  # leaves its dataset.json
    path = frame_path(own_folder, "train", modality, 1)
    np.save(path, spoil(np.load(path)))
    with pytest.raises(DatasetError, match=message) as failure:
        NyuRequest(str(own_folder), "train").open()[1]
    assert str(path) in str(failure.value)
    assert not inspect(own_folder).fine


def test_a_truncated_file_is_named(own_folder: Path) -> None:
    path = frame_path(own_folder, "val", "normal", 1)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"val/normal/1\.npy cannot be read"):
        NyuRequest(str(own_folder), "val").open()[1]
    (problem,) = next(check for check in inspect(own_folder).checks if check.name == "normal").problems
    assert "val/normal/1.npy" in problem


def test_unknown_values_are_invalid_not_numbers(own_folder: Path) -> None:
    for modality, spoilt in (("depth", np.nan), ("normal", np.inf)):
        path = frame_path(own_folder, "val", modality, 0)
        array = np.load(path)
        array[3, 4] = spoilt
        np.save(path, array)
    frame = NyuRequest(str(own_folder), "val").open()[0]
    assert frame.truths["depth"][3, 4] == 0
    assert (frame.truths["normals"][3, 4] == 0).all()
    assert {check.name for check in inspect(own_folder).checks if check.problems} == {"depth", "normal"}


def test_short_normals_are_made_unit_and_the_check_says_what_they_cost(own_folder: Path) -> None:
    for path in (own_folder / "train" / "normal").iterdir():
        np.save(path, np.load(path) * 0.9)
    frame = NyuRequest(str(own_folder), "train").open()[0]
    length = np.linalg.norm(frame.truths["normals"], axis=-1)
    assert set(np.unique(length.round(5))) == {0.0, 1.0}
    note = next(check for check in inspect(own_folder).checks if check.name == "normal").note
    assert "LibMTL's metric does not" in note


def test_both_held_out_splits_are_the_test_set_unless_some_of_train_is_set_aside(folder: Path) -> None:
    assert len(held_out_frames(data(folder), "val").open()) == len(held_out_frames(data(folder), "test").open()) == 2
    settings = data(folder, validation_from_train=1)
    rest, aside = train_frames(settings, STAGE).open(), held_out_frames(settings, "val").open()
    assert (len(rest), len(aside), len(held_out_frames(settings, "test").open())) == (3, 1, 2)
    assert len(train_frames(data(folder), Stage(height=32, width=32, steps=1, train=2)).open()) == 2
    blues = [{int(source[i].image[0, 0, 2]) for i in range(len(source))} for source in (rest, aside)]
    assert blues[0].isdisjoint(blues[1])
    assert blues[0] | blues[1] == {0, 20, 40, 60}


def test_frames_set_aside_come_in_runs_and_are_the_same_every_time() -> None:
    count = FRAMES["train"]
    aside = set_aside(count, 96)
    np.testing.assert_array_equal(aside, set_aside(count, 96))
    assert len(aside) == len(set(aside.tolist())) == 96
    assert (np.diff(aside) > 1).sum() < 96 // 10  # neighbours show the same rooms
    assert aside.min() < count // 3 < 2 * count // 3 < aside.max()
    with pytest.raises(DatasetError, match="validation_from_train"):
        set_aside(count, 500)


def test_settings_name_the_kind(folder: Path) -> None:
    stages = {"stages": [{"height": 32, "width": 64, "steps": 1}]}
    settings = parse_config({**stages, "data": {"kind": "nyuv2", "canonical": False}, "augment": {"mode": "libmtl"}})
    assert (settings.data.kind, settings.data.canonical, settings.augment.mode) == ("nyuv2", False, "libmtl")
    with pytest.raises(ConfigError, match=r"data\.kind"):
        parse_config({**stages, "data": {"kind": "scannet"}})
    with pytest.raises(ConfigError, match="validation_from_train"):
        parse_config({**stages, "data": {"validation_from_train": 5}})


@pytest.mark.parametrize("mode", ["none", "consistent", "libmtl"])
def test_batches_come_from_the_folder(folder: Path, mode: str) -> None:
    augment = AugmentSettings(mode=mode)  # type: ignore[arg-type]
    plan = BatchPlan(seed=1, stage=0, size=(32, 64), batch=3, stride=0, augment=augment, canonical=False)
    batch = StepBatches(train_frames(data(folder), STAGE), plan)[1]
    assert batch.image.shape == (3, 32, 64, 3)
    assert {task: tuple(target.shape) for task, target in batch.targets.items()} == {
        "segmentation": (3, 32, 64),
        "depth": (3, 32, 64),
        "normals": (3, 32, 64, 3),
    }


def test_targets_without_the_canonical_camera_are_the_files_own(folder: Path) -> None:
    frame = NyuRequest(str(folder), "train").open()[0]
    view = whole_view(SIZE, aspect=SIZE[1] / SIZE[0])
    _, _, depth, normals, camera = view_arrays(frame, view, size=SIZE, canonical=False)
    np.testing.assert_array_equal(depth, frame.truths["depth"])
    np.testing.assert_array_equal(normals, frame.truths["normals"])
    assert camera == pytest.approx(frame.intrinsics)
    _, _, canonical, *_ = view_arrays(frame, view, size=SIZE, canonical=True)
    assert not np.array_equal(canonical, depth)  # the switch does something


def test_the_check_passes_a_good_folder_and_prints_json(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate_dataset.main([str(own_folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {check["name"]: check for check in report["checks"]}
    assert report["fine"] is True
    assert found["frames"]["found"] == "train 4, val 2"
    assert "795" in found["frames"]["note"]
    assert found["normal axes"]["found"].startswith("+x-y-z, mean cosine 0.9")
    assert "absent: books" in found["label"]["note"]


def test_axes_that_only_a_person_can_tell_pass_the_check_when_they_are_stated(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (own_folder / "train" / "normal").iterdir():  # one direction everywhere fits no axes
        np.save(path, np.broadcast_to(np.float32([0.6, 0.0, -0.8]), np.load(path).shape))
    assert validate_dataset.main([str(own_folder), "--json"]) == 1
    assert "--axes +x-y-z" in capsys.readouterr().out
    assert prepare_nyuv2.main(["adopt", str(own_folder), "--axes", "+x-y-z"]) == 0
    capsys.readouterr()
    assert validate_dataset.main([str(own_folder), "--json"]) == 0
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert found["normal axes"]["found"] == "+x-y-z, as stated"
    assert found["normal axes"]["note"].startswith("not confirmed: the axes of the normals")


def test_the_check_fails_where_something_is_wrong(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    NyuRequest(str(own_folder), "train").open()
    for path in (own_folder / "train" / "normal").iterdir():
        np.save(path, np.load(path) * np.array([-1, 1, 1]))
    frame_path(own_folder, "val", "image", 0).unlink()
    assert validate_dataset.main([str(own_folder)]) == 1
    printed = capsys.readouterr().out
    assert "dataset.json says +x-y-z, the files agree with -x-y-z" in printed
    assert "val/image/0.npy" in printed
    assert validate_dataset.main([str(own_folder / "nothing")]) == 9
    assert "prepare_nyuv2.py" in capsys.readouterr().err


def test_the_check_names_arrays_that_are_no_maps(own_folder: Path) -> None:
    np.save(own_folder / "train" / "depth" / "0.npy", np.zeros(5))
    problems = [problem for check in inspect(own_folder).checks for problem in check.problems]
    assert any("0.npy: expected H x W, found 5" in problem for problem in problems)
    assert any("arrays differ in size" in problem for problem in problems)


@pytest.mark.parametrize(
    ("key", "value"),
    [("evidence", 0.5), ("source", []), ("axes", None), ("counts", {"train": "7"}), ("done", {"train": 7}), ("complete", 1)],
)
def test_a_description_of_other_kinds_is_refused_by_name(own_folder: Path, key: str, value: object) -> None:
    NyuRequest(str(own_folder), "train").open()  # leaves its dataset.json
    described = own_folder / "dataset.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {key: value}))
    with pytest.raises(DatasetError, match=r"dataset\.json lacks what it should say \(.+\). Remove it: it is made again"):
        NyuRequest(str(own_folder), "train", tasks=("segmentation", "depth", "normals", "objects")).open()
