"""Rooms as a data set: three dense tasks by default, boxes and the kind of room where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import validate_dataset
from mtl.bundle_frames import write_evaluation
from mtl.config import ConfigError, apply_overrides, parse_config
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.datasets.rooms import dataset
from mtl.datasets.rooms.instances import OBJECT_CLASSES, SCENE_CLASSES
from mtl.datasets.rooms.source import RenderedRooms, Rooms, RoomsRequest
from mtl.datasets.rooms.tasks import ROOM_TASKS
from mtl.datasets.sources import held_out_frames
from mtl.evaluation_targets import FrameChoice
from mtl.settings import DataSettings, SourceSettings

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs
from edge_mtl.tasks.boxes import BoxesSpec, BoxTruth
from edge_mtl.tasks.frame_class import ClassSpec
from tests.own_folder import write_own_folder

DENSE = tuple(NYU_TASKS)
FIVE = (*DENSE, "objects", "scene")


def data(root: Path, **changes: Any) -> DataSettings:
    return DataSettings(root=str(root), height=32, width=48, train=2, validation=1, test=2, workers=1, **changes)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "FRAMES_PER_SHARD", 2)


def test_five_tasks_are_there_where_they_are_named_and_three_where_none_is(tmp_path: Path) -> None:
    assert Rooms().tasks(data(tmp_path)) == NYU_TASKS
    specs = Rooms().tasks(data(tmp_path, tasks=tuple(reversed(FIVE))))
    assert tuple(specs) == FIVE
    assert specs["objects"] == BoxesSpec("objects", "boxes", OBJECT_CLASSES)
    assert specs["scene"] == ClassSpec("scene", "class", SCENE_CLASSES)
    with pytest.raises(BuildError, match=r"data\.tasks should be some of segmentation, depth, normals, objects, scene"):
        Rooms().tasks(data(tmp_path, tasks=("lanes",)))


def test_frames_have_truths_of_what_is_asked_for(tmp_path: Path) -> None:
    plain, both = (held_out_frames(data(tmp_path, tasks=tasks), "test").open() for tasks in ((), ("scene", "objects")))
    assert tuple(plain[0].truths) == DENSE
    for index in range(2):
        truths, room = both[index].truths, RenderedRooms(2, (32, 48))[index]
        assert tuple(truths) == tuple(both.tasks) == ("objects", "scene")
        boxes = truths["objects"]
        assert isinstance(boxes, BoxTruth)
        assert len(boxes) > 0
        assert not boxes.crowd.any()
        assert np.array_equal(boxes.xyxy, room.truths["objects"].xyxy)
        assert np.array_equal(boxes.classes, room.truths["objects"].classes)
        assert truths["scene"] == room.truths["scene"]
        assert type(truths["scene"]) is int
        assert np.array_equal(room.truths["segmentation"], plain[index].truths["segmentation"])


def test_an_unreadable_file_of_objects_is_named(tmp_path: Path) -> None:
    request = held_out_frames(data(tmp_path, tasks=FIVE), "test")
    request.open()
    (path,) = tmp_path.rglob("objects-1.npz")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BuildError, match=r"shard-00000 cannot be read \(objects-1\.npz is damaged: .*\)\. Remove it"):
        request.open()[0]


def settings_of(**changes: str) -> DataSettings:
    return parse_config(apply_overrides({}, {key.replace("__", "."): value for key, value in changes.items()})).data


def test_settings_that_name_no_other_tasks_are_as_before() -> None:
    assert settings_of().tasks == settings_of(model__tasks="['depth']").tasks == ()
    assert parse_config(apply_overrides({}, {"model.tasks": "[]"})).model.tasks == DENSE
    assert Rooms().held_out_frames(settings_of(), "test") == RoomsRequest("data/rooms", "test", 200, 96, 128)


def test_data_that_has_no_such_truths_is_not_asked_for_them(tmp_path: Path) -> None:
    write_own_folder(tmp_path, frames=4)
    with pytest.raises(ConfigError, match=r'data\.tasks is for data\.kind "rooms" and "nyuv2"'):
        settings_of(data__kind="folder", data__root=str(tmp_path), data__tasks="['objects']")
    for kind, unknown in (("rooms", "lanes"), ("nyuv2", "scene")):
        with pytest.raises(ConfigError, match=rf"data\.tasks should be some of .*, found \['{unknown}'\]"):
            settings_of(data__kind=kind, data__root=str(tmp_path / "frames"), data__tasks=f"['{unknown}']")


def test_a_mixture_asks_rooms_for_what_no_other_source_has(tmp_path: Path) -> None:
    from mtl.datasets.mixture import Mixture

    class Scenes(Rooms):
        name = "scenes"

        def tasks(self, data: DataSettings) -> Specs:
            return {"scene": ClassSpec("scene", "class", ("in", "out"))}

        def with_truths(self, data: DataSettings, tasks: object) -> DataSettings:
            return data

    mixed = DataSettings(sources={"own": SourceSettings(kind="scenes"), "rooms": SourceSettings()})
    mixture = Mixture(mixed, {"own": Scenes(), "rooms": Rooms()})
    assert mixture.with_truths(mixed, DENSE) is mixed
    asked = mixture.with_truths(mixed, FIVE)
    assert asked.sources["rooms"].tasks == (*DENSE, "objects")
    assert asked.sources["own"] == mixed.sources["own"]


def test_a_model_is_measured_on_rooms_with_truths_of_its_tasks(tmp_path: Path) -> None:
    asked = {task: ROOM_TASKS[task] for task in ("objects", "depth")}
    chosen = FrameChoice("test", root=str(tmp_path), count=3).applied(DataSettings(), (32, 64), asked)
    assert chosen.tasks == (*DENSE, "objects")
    assert held_out_frames(chosen, "test") == RoomsRequest(str(tmp_path), "test", 3, 32, 64, chosen.tasks)
    others = {"objects": BoxesSpec("objects", "boxes", ("cup",)), "scene": ROOM_TASKS["scene"]}
    assert FrameChoice("test", root=str(tmp_path)).applied(DataSettings(), (32, 64), others).tasks == (*DENSE, "scene")
    folder = write_own_folder(tmp_path / "own", frames=4)
    assert FrameChoice("test", root=str(folder)).applied(chosen, (32, 64), ROOM_TASKS).tasks == ()


def report(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = validate_dataset.main([str(root), "--json"])
    found = json.loads(capsys.readouterr().out)
    return code, {check["name"]: check for check in found["checks"]}


def test_validation_counts_boxes_and_kinds_of_rooms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rooms = [held_out_frames(data(tmp_path, tasks=FIVE), "test").open()[index] for index in range(2)]
    code, checks = report(tmp_path, capsys)
    assert code == 0
    assert checks["rooms 32x48"]["found"] == "test 2"
    counted = checks["objects 32x48"]["details"]["classes"]
    every = np.concatenate([room.truths["objects"].classes for room in rooms])
    for index, name in enumerate(OBJECT_CLASSES):
        assert counted[name]["test"]["share"] == pytest.approx((every == index).mean(), abs=1e-6)
        assert counted[name]["test"]["frames"] == sum(index in room.truths["objects"].classes for room in rooms)
    scenes = {name: one["test"]["frames"] for name, one in checks["scene 32x48"]["details"]["classes"].items()}
    assert sum(scenes.values()) == 2
    assert all(scenes[SCENE_CLASSES[room.truths["scene"]]] > 0 for room in rooms)
    assert validate_dataset.main([str(tmp_path)]) == 0
    assert "objects 32x48: share of the boxes, and frames" in " ".join(capsys.readouterr().out.split())


def test_validation_says_what_lacks_and_what_is_of_another_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_out_frames(data(tmp_path, tasks=FIVE), "test").open()
    (path,) = tmp_path.rglob("objects-1.npz")
    with np.load(path) as stored:
        content: dict[str, Any] = dict(stored)
    content["amodal"] = content["amodal"] + 100
    np.savez(path, **content)
    code, checks = report(tmp_path, capsys)
    assert code == 1
    said = "\n".join(checks["objects 32x48"]["problems"])
    assert "a box that leaves the frame" in said
    assert "not those that the seed 2000000000 gives" in said
    path.write_bytes(b"nothing")
    code, checks = report(tmp_path, capsys)
    assert code == 1
    assert "Remove it, run train/make_rooms.py again" in checks["rooms 32x48"]["problems"][0]
    path.unlink()
    code, checks = report(tmp_path, capsys)
    assert code == 0
    assert checks["rooms 32x48"]["note"] == "2 have no boxes yet: train/make_rooms.py adds them"
    assert "objects 32x48" not in checks


def test_labelled_frames_of_rooms_carry_boxes_and_the_kind_of_room(tmp_path: Path) -> None:
    frames = RenderedRooms(2, (64, 96))
    write_evaluation(tmp_path, frames, frames.tasks, [0, 1], (64, 96), 90)
    for index in range(2):
        truths = frames[index].truths
        boxes = truths["objects"]
        kept = json.loads((tmp_path / f"{index:03d}.objects.json").read_text())["boxes"]
        assert [OBJECT_CLASSES.index(one["class"]) for one in kept] == boxes.classes.tolist()
        assert len(kept) > 0
        np.testing.assert_allclose([one["xyxy"] for one in kept], boxes.xyxy, atol=1e-3)
        scene = json.loads((tmp_path / f"{index:03d}.scene.json").read_text())
        assert scene == {"class": SCENE_CLASSES[truths["scene"]]}


def test_batches_of_rooms_have_targets_of_all_five_tasks(tmp_path: Path) -> None:
    request = held_out_frames(data(tmp_path, tasks=FIVE), "test")
    plan = BatchPlan(seed=0, stage=0, size=(32, 48), batch=2, stride=4, augment=AugmentSettings())
    targets = StepBatches(request, plan)[0].targets
    assert tuple(targets) == FIVE
    assert sorted(targets["scene"].tolist()) == sorted(request.open()[index].truths["scene"] for index in (0, 1))
