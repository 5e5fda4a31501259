"""A room seen from several places is one room, and its floor plan is where things stand."""

from __future__ import annotations

import numpy as np
import pytest
from mtl.datasets.rooms import Label, RenderOptions, Room, render, render_room
from mtl.datasets.rooms.floor_plan import cells_of, free_places, occupied_cells, tour
from mtl.datasets.worlds.camera import Intrinsics, look

HEIGHT, WIDTH = 48, 64
PLAIN = RenderOptions(wide_fraction=0.0, noise=0.0, motion_blur_fraction=0.0, focal_factor=(1.0, 1.0))
CELL_M = 0.05


@pytest.fixture(scope="module")
def room() -> Room:
    return Room.of(11, options=PLAIN)


def points_in_room(sample, pose):
    fx, fy, cx, cy = sample.intrinsics
    v, u = np.mgrid[: sample.depth_m.shape[0], : sample.depth_m.shape[1]]
    rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones_like(u)], -1)
    return (rays * sample.depth_m[..., None]) @ pose.axes.T + pose.position_m


def test_a_room_is_the_one_of_its_seed_and_looks_the_same_from_the_same_place(room):
    drawn = render_room(11, HEIGHT, WIDTH, options=PLAIN)
    _, _, pose = render._find_view(np.random.default_rng([11, 2]), 1.0)
    again = room.seen_from(pose, Intrinsics(*drawn.intrinsics), HEIGHT, WIDTH, options=PLAIN)
    for name in ("image", "label", "depth_m", "normals"):
        assert np.array_equal(getattr(drawn, name), getattr(again, name)), name


def test_two_views_agree_where_things_are_and_each_shot_has_its_own_noise(room):
    lens, spot = Intrinsics.canonical(HEIGHT, WIDTH), free_places(room, clearance_m=0.3)[0]
    first, second = (look((*map(float, spot), z), 0.4, -0.2, 0.0) for z in (0.6, 1.2))
    plan = occupied_cells(room, low_m=0.0, high_m=2.2, cell_m=CELL_M)
    for pose in (first, second):
        sample = room.seen_from(pose, lens, HEIGHT, WIDTH)
        points = points_in_room(sample, pose)
        assert np.abs(points[sample.label == Label.FLOOR][:, 2]).max(initial=0) < 0.03  # rugs are floor too
        size = np.array(room.scene.shell.size_m)
        assert (points > -1e-3).all()
        assert (points < size + 1e-3).all()
    noisy = [room.seen_from(first, lens, HEIGHT, WIDTH, shot=shot) for shot in (0, 1)]
    assert not np.array_equal(noisy[0].image, noisy[1].image)
    assert np.array_equal(noisy[0].depth_m, noisy[1].depth_m)
    assert plan.any()


@pytest.mark.parametrize("seed", [11, 13])
def test_a_plan_has_what_rays_hit_and_nothing_where_they_hit_the_floor(seed):
    room = Room.of(seed, options=PLAIN)
    plan = occupied_cells(room, low_m=0.1, high_m=1.8, cell_m=CELL_M)
    grown = np.pad(plan, 1)
    near = np.any([grown[y : y + plan.shape[0], x : x + plan.shape[1]] for y in range(3) for x in range(3)], axis=0)
    lens, hits = Intrinsics.canonical(HEIGHT, WIDTH), 0
    for shot, pose in enumerate(tour(room, stops=2, turns=4, height_m=1.2, pitch_rad=-0.2)):
        points = points_in_room(room.seen_from(pose, lens, HEIGHT, WIDTH, shot=shot, options=PLAIN), pose).reshape(-1, 3)
        standing = points[(points[:, 2] > 0.11) & (points[:, 2] < 1.79)]
        rows, columns = cells_of(standing[:, 0], standing[:, 1], cell_m=CELL_M)
        assert near[rows.clip(0, plan.shape[0] - 1), columns.clip(0, plan.shape[1] - 1)].all()
        hits += len(standing)
    assert hits > 5000
    assert 0.05 < plan.mean() < 0.7
    assert plan[0].all()
    assert plan[:, -1].all()


def test_a_tour_stays_on_free_floor_and_looks_about(room):
    poses = tour(room, stops=3, turns=4, height_m=0.8, pitch_rad=-0.1)
    assert len(poses) == 12
    plan = occupied_cells(room, low_m=0.02, high_m=1.9, cell_m=CELL_M)
    places = {tuple(pose.position_m.tolist()) for pose in poses}
    assert len(places) == 3
    for x, y, z in places:
        assert z == pytest.approx(0.8)
        row, column = cells_of(np.array(x), np.array(y), cell_m=CELL_M)
        assert not plan[row - 3 : row + 4, column - 3 : column + 4].any()
    forward = np.stack([pose.axes[:, 2] for pose in poses[:4]])
    assert np.abs(forward[:, :2].sum(0)).max() < 1e-5
    with pytest.raises(ValueError, match="free floor"):
        tour(room, stops=1, turns=1, height_m=0.8, pitch_rad=0.0, clearance_m=5.0)
