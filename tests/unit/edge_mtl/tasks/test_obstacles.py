"""What is an obstacle, what is floor, and what a scan says, against worlds whose geometry is known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_mtl.tasks.floor import find_floor
from edge_mtl.tasks.obstacles import ObstacleLimits, PlanarScan, Surroundings, level_axes, planar_scan, surroundings
from edge_mtl.tasks.points import CloudMaps
from tests.floors import CAMERA, CEILING, FLOOR, OBJECTS, SIZE, TABLE, WALL, World, changed, without

LIMITS = ObstacleLimits(stride=2, range_m=5.0, tolerance=0.1)


def seen(maps: CloudMaps, *, limits: ObstacleLimits = LIMITS, scale: float = 1.0) -> Surroundings:
    floor = find_floor(maps, CAMERA, classes=("floor",), stride=limits.stride)
    return surroundings(maps, CAMERA, floor, scale=scale, limits=limits, floor_classes=("floor",), ceiling_classes=("CEILING",))


def scan_of(around: Surroundings, limits: ObstacleLimits = LIMITS) -> PlanarScan:
    return planar_scan(around, CAMERA, SIZE[1], limits=limits)


def obstacles(world: World, around: Surroundings) -> np.ndarray:
    return world.in_world(around.points[around.obstacle])


@pytest.mark.parametrize("pitch_deg", [0.0, 15.0, 30.0])
def test_obstacles_are_what_stands_on_the_floor_and_ground_is_the_floor(pitch_deg: float) -> None:
    world = World(pitch_deg=pitch_deg, boxes=[((1.8, 2.2), (-0.2, 0.5), (0.0, 0.6), OBJECTS)])
    around = seen(world.maps())
    found = obstacles(world, around)
    on_box = (found[:, 0] < 2.3) & (found[:, 0] > 1.75)
    assert on_box.sum() > 100
    assert ((found[:, 0] > 3.99) | on_box).all(), "the wall, or the box"
    assert found[:, 2].min() > 0.09
    assert found[:, 2].max() < 2.01
    ground = world.in_world(around.points[around.floor])
    assert len(ground) > 500
    assert np.abs(ground[:, 2]).max() < 0.11


def test_a_patch_of_floor_with_a_wrong_class_is_no_obstacle() -> None:
    world = World(pitch_deg=20.0)
    maps = world.maps()
    assert maps.labels is not None
    labels = maps.labels.labels.copy()
    labels[90:110, 60:90] = OBJECTS
    patch = np.zeros(SIZE, bool)
    patch[90:110, 60:90] = True
    assert (maps.labels.labels[patch] == FLOOR).all()
    found = obstacles(world, seen(changed(maps, labels=labels)))
    assert (found[:, 0] > 3.9).all()


def test_an_obstacle_with_the_floor_s_class_is_one_from_the_height_on() -> None:
    world = World(pitch_deg=25.0, boxes=[((1.5, 2.0), (-0.4, 0.4), (0.0, 0.2), FLOOR)])
    found = obstacles(world, seen(world.maps()))
    top = (found[:, 0] < 2.01) & (np.abs(found[:, 2] - 0.2) < 0.005)
    assert top.sum() > 30
    low = World(pitch_deg=25.0, boxes=[((1.5, 2.0), (-0.4, 0.4), (0.0, 0.06), FLOOR)])
    assert (obstacles(low, seen(low.maps()))[:, 0] > 3.9).all()


def test_where_class_and_normal_say_floor_the_tolerance_is_in_heights_of_the_camera() -> None:
    step = World(pitch_deg=30.0, height_m=1.5, boxes=[((1.5, 2.2), (-0.6, 0.6), (0.0, 0.14), FLOOR)])
    maps = step.maps()

    def tops(limits: ObstacleLimits, named: CloudMaps = maps) -> int:
        found = obstacles(step, seen(named, limits=limits))
        return int((np.abs(found[:, 2] - 0.14) < 0.005).sum())

    assert tops(LIMITS) < 10 < tops(replace(LIMITS, tolerance=0.0))
    assert maps.labels is not None
    other = np.where((maps.labels.labels == FLOOR) & (maps.depth.depth_m > 1e9), OBJECTS, maps.labels.labels)
    points = step.in_world(
        np.dstack([(np.arange(SIZE[1]) - CAMERA.cx)[None] / CAMERA.fx * maps.depth.depth_m,
                   (np.arange(SIZE[0]) - CAMERA.cy)[:, None] / CAMERA.fy * maps.depth.depth_m,
                   maps.depth.depth_m]).reshape(-1, 3)
    ).reshape(*SIZE, 3)  # fmt: skip
    other = np.where(np.abs(points[..., 2] - 0.14) < 0.005, TABLE, other)
    assert tops(LIMITS, changed(maps, labels=other)) > 10, "another class is judged by min_height_m alone"


def test_the_edge_of_a_table_is_an_obstacle_and_the_floor_below_it_is_not() -> None:
    top = ((1.5, 2.5), (-0.6, 0.6), (0.72, 0.75), TABLE)
    world = World(pitch_deg=10.0, height_m=0.5, boxes=[top])
    around = seen(world.maps())
    found = obstacles(world, around)
    table = (found[:, 2] > 0.7) & (found[:, 0] < 2.6)
    assert table.sum() > 10
    assert (table | (found[:, 0] > 3.99)).all()
    below = world.in_world(around.points[around.floor])
    assert ((below[:, 0] > 1.6) & (below[:, 0] < 2.4) & (np.abs(below[:, 1]) < 0.5)).sum() > 20
    low = seen(world.maps(), limits=replace(LIMITS, max_height_m=0.6))
    assert (obstacles(world, low)[:, 0] > 3.99).all(), "a robot of 0.6 m passes below"


def test_a_ramp_is_an_obstacle_where_it_is_higher_than_the_least_height() -> None:
    world = World(pitch_deg=15.0, ramp=(2.0, 12.0))
    found = obstacles(world, seen(world.maps()))
    on_ramp = found[:, 0] < 3.9
    assert on_ramp.sum() > 30
    starts = 2.0 + 0.1 / np.tan(np.radians(12.0))
    assert found[:, 0].min() == pytest.approx(starts, abs=0.1)


def test_ceilings_count_by_their_class_above_the_camera_only() -> None:
    world = World(pitch_deg=-15.0, height_m=1.0, ceiling_m=1.9)
    maps = world.maps()
    assert maps.labels is not None
    assert (maps.labels.labels == CEILING).mean() > 0.2
    assert obstacles(world, seen(maps))[:, 2].max() < 1.9 - 0.01 or (obstacles(world, seen(maps))[:, 0] > 3.9).all()
    mistaken = World(pitch_deg=20.0, boxes=[((1.5, 2.0), (-0.4, 0.4), (0.0, 0.5), CEILING)])
    found = obstacles(mistaken, seen(mistaken.maps()))
    assert (found[:, 0] < 2.1).sum() > 50


def test_without_a_floor_all_but_floors_and_ceilings_are_obstacles() -> None:
    world = World(pitch_deg=0.0, wall_m=0.8)
    maps = world.maps()
    assert maps.labels is not None
    labels = np.where(maps.labels.labels == FLOOR, WALL, maps.labels.labels)
    around = seen(changed(maps, labels=labels))
    assert around.floor.sum() == 0
    wall = np.isclose(around.points[:, 2], 0.8, atol=1e-3)
    assert wall.sum() > 1000
    assert around.obstacle[wall].all()
    nearest = scan_of(around).ranges_m
    assert nearest[len(nearest) // 2] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("pitch_deg", [0.0, 20.0, 30.0])
def test_a_scan_has_the_floor_distance_to_the_nearest_thing_at_any_height(pitch_deg: float) -> None:
    world = World(pitch_deg=pitch_deg, boxes=[((1.7, 2.0), (0.3, 0.9), (0.0, 0.3), OBJECTS)])
    scan = scan_of(seen(world.maps()))
    angles = scan.angle_min_rad + scan.angle_step_rad * np.arange(len(scan.ranges_m))
    x, y = scan.ranges_m * np.cos(angles), scan.ranges_m * np.sin(angles)
    on_box = (angles > np.arctan2(0.35, 1.7)) & (angles < np.arctan2(0.6, 1.75))
    assert on_box.sum() > 4
    assert np.allclose(x[on_box], 1.7, atol=0.03), "left is positive"
    away = angles < -0.1
    hit = away & np.isfinite(scan.ranges_m)
    assert hit.sum() > 5
    assert np.allclose(x[hit], 4.0, atol=0.06)
    assert np.abs(y[hit]).max() > 0.5


def test_a_scan_is_infinite_where_nothing_is_up_to_its_range_and_unknown_where_that_is_not_seen() -> None:
    world = World(pitch_deg=10.0, wall_m=4.0)
    near = replace(LIMITS, range_m=3.0)
    free = scan_of(seen(world.maps(), limits=near), near)
    assert np.isinf(free.ranges_m[5:-5]).all()
    maps = world.maps()
    depth = maps.depth.depth_m.copy()
    depth[:88, 80:] = np.nan  # the right half sees its floor up to where the third metre begins
    half = scan_of(seen(changed(maps, depth=depth), limits=near), near).ranges_m
    assert np.isnan(half[3 : len(half) // 2 - 2]).all()
    assert np.isinf(half[len(half) // 2 + 2 : -5]).all()


def test_rays_are_the_same_for_every_frame_and_none_falls_between_two_columns() -> None:
    scans = [scan_of(seen(World(pitch_deg=pitch, wall_m=2.0).maps())) for pitch in (0.0, 20.0)]
    assert len(scans[0].ranges_m) == len(scans[1].ranges_m)
    assert scans[0].angle_min_rad == scans[1].angle_min_rad
    assert np.isfinite(scans[0].ranges_m).all()
    last = scans[0].angle_min_rad + scans[0].angle_step_rad * (len(scans[0].ranges_m) - 1)
    assert last == pytest.approx(np.arctan2(CAMERA.cx, CAMERA.fx), abs=scans[0].angle_step_rad)


@pytest.mark.parametrize("depth", [np.nan, 0.0])
def test_no_depth_is_nothing_at_all(depth: float) -> None:
    around = seen(changed(World().maps(), depth=np.full(SIZE, depth)))
    assert len(around.points) == 0
    assert np.isnan(scan_of(around).ranges_m).all()


def test_points_are_scaled_and_the_range_is_along_the_floor() -> None:
    world = World(pitch_deg=20.0)
    maps = changed(world.maps(), depth=world.maps().depth.depth_m * 1.25)
    floor = find_floor(world.maps(), CAMERA, classes=("floor",), stride=2)
    limits = replace(LIMITS, range_m=4.5)
    around = surroundings(maps, CAMERA, floor, scale=0.8, limits=limits, floor_classes=("floor",), ceiling_classes=("ceiling",))
    found = obstacles(world, around)
    assert found[:, 0].min() == pytest.approx(4.0, abs=0.01)
    assert np.hypot(found[:, 0], found[:, 1]).max() <= 4.5


def test_the_foot_of_a_wall_is_within_the_range_though_its_ray_is_longer() -> None:
    world = World(pitch_deg=15.0, wall_m=4.0)
    found = obstacles(world, seen(world.maps(), limits=replace(LIMITS, range_m=4.05)))
    assert found[:, 2].min() < 0.15


def test_axes_are_right_handed_and_level_without_a_floor() -> None:
    axes = level_axes(None)
    assert np.allclose(axes, [[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    tilted = level_axes(find_floor(World(pitch_deg=30.0).maps(), CAMERA, classes=("floor",), stride=2))
    assert np.linalg.det(tilted) == pytest.approx(1.0, abs=1e-5)
    assert np.allclose(tilted @ tilted.T, np.eye(3), atol=1e-5)


def test_a_bundle_without_labels_or_normals_has_obstacles_too() -> None:
    world = World(pitch_deg=20.0, boxes=[((1.8, 2.2), (-0.2, 0.5), (0.0, 0.6), OBJECTS)])
    for left_out in ({"labels": True}, {"normals": True}):
        found = obstacles(world, seen(without(world.maps(), **left_out)))
        assert ((found[:, 0] > 1.75) & (found[:, 0] < 2.3)).sum() > 100
        assert found[:, 2].min() > 0.08
