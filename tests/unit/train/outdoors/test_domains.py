"""Domains: cells of the same streets in other light, lenses of a focal length, frames that claim another camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mtl.datasets.streets import dataset, render_street
from mtl.datasets.streets.render import DEFAULT_OPTIONS
from mtl.datasets.streets.tasks import STREET_TASKS
from mtl.geometry import canonical_intrinsics
from mtl.outdoors.domains import (
    CELLS,
    FramesAt,
    TakenBy,
    cell_options,
    corrupted_frames,
    focal_factors,
    rooms_at,
    streets_at,
    through_lens,
)

from edge_mtl.errors import BuildError

SIZE = (32, 64)
HOME = ("clear", "daytime")
TASKS = {name: STREET_TASKS[name] for name in ("drivable", "normals")}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "FRAMES_PER_SHARD", 2)


def test_there_are_twelve_cells_and_they_show_the_same_streets_in_other_light():
    assert len(set(CELLS)) == 12
    for seed in (2_000_000_000, 2_000_000_001):
        every = [render_street(seed, *SIZE, options=cell_options(cell)) for cell in CELLS]
        for name in ("label", "drivable", "lanes", "depth_m", "normals"):
            assert all(np.array_equal(getattr(one, name), getattr(every[0], name)) for one in every), name
        assert all(np.array_equal(one.objects.visible, every[0].objects.visible) for one in every)
        assert {one.intrinsics for one in every} == {every[0].intrinsics}
        images = {one.image.tobytes() for one in every}
        assert len(images) == 12


def test_streets_have_truths_of_what_is_asked_and_always_of_depth(tmp_path: Path):
    frames = streets_at(FramesAt(str(tmp_path), SIZE, 2), TASKS, options=cell_options(HOME))
    assert set(frames.tasks) == {"drivable", "normals", "depth"}
    assert len(frames) == 2
    assert set(frames[0].truths) == set(frames.tasks)
    foggy = corrupted_frames(frames, "fog", 5)
    assert not np.array_equal(foggy[0].image, frames[0].image)
    assert np.array_equal(corrupted_frames(frames, "fog", 0)[0].image, frames[0].image)


def test_a_lens_has_the_focal_length_that_is_asked_for():
    for factor in (0.6, 1.6):
        street = render_street(5, *SIZE, options=through_lens(SIZE, factor, HOME))
        assert street.intrinsics[0] == pytest.approx(factor * canonical_intrinsics(*SIZE)[0])


def test_a_longer_lens_shows_the_middle_of_the_same_street_larger():
    wide, long = (render_street(5, *SIZE, options=through_lens(SIZE, factor, HOME)) for factor in (0.8, 1.6))
    inner = wide.depth_m[8:24, 16:48].repeat(2, axis=0).repeat(2, axis=1)
    both = (inner > 0) & (long.depth_m > 0)
    assert np.median(np.abs(np.log(long.depth_m[both] / inner[both]))) < 0.05  # metres stay metres


def test_focal_lengths_of_training_are_those_of_streets_times_the_zoom():
    low, high = focal_factors((96, 160), zoom=(0.9, 1.2))
    canonical = canonical_intrinsics(96, 160)[0] / 160
    assert low == pytest.approx(0.9 * DEFAULT_OPTIONS.focal[0] / canonical)
    assert high == pytest.approx(1.2 * DEFAULT_OPTIONS.focal[1] / canonical)


def test_frames_may_claim_another_camera_and_keep_all_else(tmp_path: Path):
    frames = streets_at(FramesAt(str(tmp_path), SIZE, 1), TASKS, options=cell_options(HOME))
    claimed = TakenBy(frames, (1.0, 2.0, 3.0, 4.0))
    assert claimed[0].intrinsics == (1.0, 2.0, 3.0, 4.0)
    assert np.array_equal(claimed[0].image, frames[0].image)
    assert (len(claimed), claimed.tasks) == (1, frames.tasks)


def test_rooms_of_no_task_of_theirs_are_refused(tmp_path: Path):
    with pytest.raises(BuildError, match="rooms have truths of"):
        rooms_at(FramesAt(str(tmp_path), SIZE, 1), {"drivable": STREET_TASKS["drivable"]})
