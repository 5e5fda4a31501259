"""Streets as a data set: cached by seed, exact after a round trip to disk, limited to kinds, checked, and named in errors."""

from __future__ import annotations

import json
from pathlib import Path

import make_streets
import numpy as np
import pytest
import validate_dataset
from mtl.config import ConfigError, parse_config
from mtl.datasets.sources import data_set, held_out_frames, train_frames
from mtl.datasets.streets import StreetOptions, StreetsDataset, dataset, render_street
from mtl.datasets.streets.classes import SCENES, TIMES, WEATHERS
from mtl.datasets.streets.shards import read_frame, write_shard
from mtl.datasets.streets.source import StreetsRequest, options_of
from mtl.datasets.streets.tasks import DEFAULT_TASKS, STREET_TASKS, object_truth
from mtl.datasets.worlds import cache
from mtl.datasets.worlds.objects import SeenObjects

from edge_mtl.errors import BuildError

HEIGHT, WIDTH = 32, 64


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "FRAMES_PER_SHARD", 2)


def streets(root: Path, count: int = 2, **options: object) -> StreetsDataset:
    return StreetsDataset(root, "train", count, height=HEIGHT, width=WIDTH, workers=1, progress=False, **options)  # type: ignore[arg-type]


def test_frames_come_back_from_disk_as_they_were_rendered(tmp_path):
    found, made = streets(tmp_path)[1], render_street(1, HEIGHT, WIDTH)
    for name in ("image", "label", "drivable", "lanes", "truncated"):
        assert np.array_equal(getattr(found, name), getattr(made, name)), name
    np.testing.assert_allclose(found.depth_m, made.depth_m, rtol=6e-4)
    np.testing.assert_allclose(found.normals, made.normals, atol=5e-5)
    assert np.array_equal(found.objects.visible, made.objects.visible)
    assert (found.scene, found.weather, found.time) == (made.scene, made.weather, made.time)
    assert found.intrinsics == made.intrinsics


def test_nothing_is_rendered_twice(tmp_path, monkeypatch):
    streets(tmp_path)
    monkeypatch.setattr(dataset, "render_shard", lambda *job: pytest.fail("rendered again"))
    assert len(streets(tmp_path)) == 2
    with pytest.raises(IndexError, match="frame 2 of 2"):
        streets(tmp_path)[2]


def test_other_options_are_other_folders(tmp_path):
    assert streets(tmp_path).folder != streets(tmp_path, options=StreetOptions(times=("night",))).folder
    assert len(cache.size_folders(tmp_path, dataset.WORLD)) == 2


def test_frames_have_the_truths_that_are_asked_for(tmp_path):
    frames = StreetsRequest(str(tmp_path), "train", 2, HEIGHT, WIDTH).open()
    assert tuple(frames.tasks) == tuple(frames[0].truths) == DEFAULT_TASKS
    every = StreetsRequest(str(tmp_path), "train", 2, HEIGHT, WIDTH, tuple(STREET_TASKS)).open()[0]
    assert set(every.truths) == set(STREET_TASKS)
    assert every.truths["lane"].max() < 4
    assert every.truths["timeofday"] in range(3)
    with pytest.raises(BuildError, match=r"data.tasks should be some of objects, drivable"):
        StreetsRequest(str(tmp_path), "train", 2, HEIGHT, WIDTH, ("lanes",)).open()


def test_kinds_that_are_named_are_the_only_ones_of_their_group():
    assert options_of(()) == StreetOptions()
    assert options_of(("night", "rainy", "foggy")) == StreetOptions(weathers=("rainy", "foggy"), times=("night",))
    assert options_of((*SCENES, *WEATHERS, *TIMES)) == StreetOptions()
    with pytest.raises(ValueError, match="found 'snowy'"):
        options_of(("snowy",))


def test_what_is_hardly_seen_or_very_small_is_not_judged():
    boxes = np.array([[0, 0, 50, 40], [0, 0, 50, 40], [0, 0, 2, 40], [0, 0, 50, 40]], np.float32)
    pixels, share = np.array([1800, 1800, 80, 20]), np.array([1.0, 0.2, 1.0, 0.9], np.float32)
    objects = SeenObjects(boxes, boxes, np.full(4, 2), pixels, share)
    assert object_truth(objects, (384, 640)).crowd.tolist() == [False, True, True, True]
    assert (
        len(object_truth(SeenObjects(*(one[:0] for one in (boxes, boxes, np.full(4, 2), pixels, share))), (384, 640)).xyxy) == 0
    )


def test_a_configuration_can_name_streets(tmp_path):
    settings = parse_config(
        {
            "model": {"tasks": ["drivable", "scene"]},
            "data": {"kind": "streets", "root": str(tmp_path), "conditions": ["night"], "height": 32, "width": 64, "train": 2},
            "stages": [{"height": 32, "width": 64, "steps": 1}],
        }
    )
    data = settings.data
    assert set(data_set(data).tasks(data)) >= {"drivable", "scene"}
    assert "night only" in data_set(data).title(data)
    frames = train_frames(data, settings.stages[0]).open()
    assert set(frames[0].truths) >= {"drivable", "scene"}
    assert held_out_frames(data, "test").split == "test"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"conditions": ["snowy"]}, "data.conditions: expected some of city street"),
        ({"tasks": ["roads"]}, "data.tasks should be some of objects"),
        ({"validation_from_train": 3}, "validation_from_train"),
    ],
)
def test_settings_that_cannot_be_are_refused(data, words):
    with pytest.raises(ConfigError, match=words):
        parse_config({"model": {"tasks": ["drivable"]}, "data": {"kind": "streets", **data}})


def test_rooms_have_no_use_for_conditions():
    with pytest.raises(ConfigError, match=r"data.conditions is for streets"):
        parse_config({"data": {"kind": "rooms", "conditions": ["night"]}})


class TestScripts:
    def test_streets_are_rendered_drawn_and_written(self, tmp_path, capsys):
        arguments = ["--root", str(tmp_path / "streets"), "--count", "2", "--size", "32x64", "--workers", "1"]
        sheet, folder = tmp_path / "sheet.png", tmp_path / "labelled"
        assert make_streets.main([*arguments, "--preview", str(sheet), "--labelled", str(folder), "--conditions", "night"]) == 0
        assert sheet.stat().st_size > 1000
        assert {path.suffix for path in folder.rglob("*") if path.is_file()} >= {".png", ".json"}
        assert "2 streets in" in capsys.readouterr().out
        assert make_streets.main([*arguments, "--labelled", str(folder)]) == BuildError.exit_code
        assert "exists already" in capsys.readouterr().err
        assert make_streets.main([*arguments, "--conditions", "snowy"]) == 2
        assert "found 'snowy'. Name another value." in capsys.readouterr().err

    def test_a_folder_of_streets_is_checked(self, tmp_path, capsys):
        found = streets(tmp_path, 4)
        assert validate_dataset.main([str(tmp_path), "--json"]) == 0
        checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
        assert checks["streets 32x64"]["found"] == "train 4"
        assert "a frame" in checks["objects 32x64"]["found"]
        first = found.folder / "shard-00000"
        samples = [read_frame(first, 0), read_frame(first, 1)]
        samples[0].label[:] = 19
        samples[1].depth_m[:] = 120
        for path in first.iterdir():
            path.unlink()
        first.rmdir()
        write_shard(first, samples)
        (found.folder / "shard-00001" / "drivable.npy").write_bytes(b"no array")
        assert validate_dataset.main([str(tmp_path), "--json"]) == 1
        checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
        problems = " ".join(checks["maps 32x64"]["problems"])
        assert "expected classes 0 to 18 of maps, found 19" in problems
        assert "expected depth within 0 to 80 m" in problems
        assert "is not what the seed 0 gives" in problems
        assert "run train/make_streets.py again" in checks["streets 32x64"]["problems"][0]
