"""A tour of rendered rooms with exact maps: what stands there is marked, what is floor is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edge_mtl.tasks.floor_tracking import FloorOptions


@pytest.fixture
def tours(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("costmap_tour")


@pytest.mark.parametrize(("seed", "height_m", "pitch_deg"), [(11, 1.2, 17.0), (13, 0.5, 5.0)])
def test_with_exact_maps_the_grid_is_the_floor_plan(tours: ModuleType, seed: int, height_m: float, pitch_deg: float) -> None:
    route = tours.Tour.of(seed, size=(120, 160), stops=3, turns=8, height_m=height_m, pitch_deg=pitch_deg)
    maps = [tours.exact_maps(sample) for sample in route.frames]
    clouds, scans = tours.drive(route, maps, FloorOptions(stride=1, keep_s=60.0))
    by_clouds, by_scans = (tours.score(route, grid, tolerance_m=0.05) for grid in (clouds, scans))
    assert by_clouds.precision > 0.98
    assert by_clouds.recall > 0.93
    assert by_clouds.blocked < 0.01
    assert by_scans.precision > 0.95
    assert by_scans.recall > 0.3
    assert by_scans.blocked < 0.01
    assert set(np.unique(clouds.occupancy())) == {-1, 0, 100}


def test_a_wrong_height_of_the_camera_is_seen_in_the_score(tours: ModuleType) -> None:
    route = tours.Tour.of(11, size=(120, 160), stops=3, turns=8, height_m=1.2, pitch_deg=17.0)
    maps = [tours.exact_maps(sample) for sample in route.frames]
    clouds, _ = tours.drive(route, maps, FloorOptions(stride=1, keep_s=60.0, height_m=1.8))
    assert tours.score(route, clouds, tolerance_m=0.05).recall < 0.5


def test_the_script_prints_its_rows_and_draws_a_figure(
    tours: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figure = tmp_path / "tour.json", tmp_path / "tour.png"
    size = ("--seeds", "11", "--size", "60x80", "--stops", "1", "--turns", "3")
    tours.main([*size, "--out", str(out), "--save", str(figure)])
    rows = json.loads(out.read_text())["rows"]
    assert [row["from"] for row in rows] == ["clouds", "scans"]
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cv2.imread(str(figure)).std() > 20


@pytest.mark.parametrize(("wrong", "code"), [(["--seeds", "x"], 2), (["--size", "wide"], 2), (["--bundle", "nothing-here"], 3)])
def test_wrong_arguments_end_before_a_room_is_rendered(
    tours: ModuleType, wrong: list[str], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tours.Tour, "of", lambda *_, **__: pytest.fail("a room was rendered"))
    try:
        found = tours.main(wrong)
    except SystemExit as exc:
        found = exc.code
    assert found == code
    assert wrong[1] in capsys.readouterr().err.splitlines()[-1]
