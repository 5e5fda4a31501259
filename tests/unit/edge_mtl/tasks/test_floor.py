"""The floor's plane: exact on rendered worlds at every pitch, robust where classes, normals or depth are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_mtl.tasks import NormalMap
from edge_mtl.tasks.floor import FloorPlane, find_floor
from edge_mtl.tasks.floor_tracking import FloorOptions, FloorTracker
from edge_mtl.tasks.points import CloudMaps
from tests.floors import CAMERA, FLOOR, OBJECTS, SIZE, TABLE, WALL, World, changed, without

CLASSES = ("Floor",)


def found(maps: CloudMaps, **options: object) -> FloorPlane | None:
    return find_floor(maps, CAMERA, classes=CLASSES, stride=2, **options)  # type: ignore[arg-type]


def tilt_deg(plane: FloorPlane, world: World) -> float:
    true = FloorPlane.of_mount(height_m=world.height_m, pitch_deg=world.pitch_deg).up
    return math.degrees(math.acos(min(1.0, float(np.dot(plane.up, true)))))


@pytest.mark.parametrize("pitch_deg", [0.0, 10.0, 30.0, 50.0])
@pytest.mark.parametrize("left_out", [{}, {"normals": True}, {"labels": True}])
def test_the_floor_is_found_at_every_pitch_also_without_normals_or_labels(pitch_deg: float, left_out: dict[str, bool]) -> None:
    world = World(height_m=0.7, pitch_deg=pitch_deg, boxes=[((2.0, 2.6), (-0.3, 0.6), (0.0, 0.5), OBJECTS)])
    plane = found(without(world.maps(), **left_out))
    assert plane is not None
    assert plane.height_m == pytest.approx(0.7, rel=0.005)
    assert tilt_deg(plane, world) < 0.3
    assert plane.pitch_deg == pytest.approx(pitch_deg, abs=0.3)


def test_a_table_that_is_taken_for_floor_does_not_lift_it() -> None:
    world = World(pitch_deg=25.0, boxes=[((1.2, 2.4), (-0.9, 0.9), (0.0, 0.45), FLOOR)])
    maps = world.maps()
    assert maps.labels is not None
    assert maps.normals is not None
    lifted = (maps.labels.labels == FLOOR) & (maps.depth.depth_m * 0 == 0)
    assert lifted.mean() > 0.3
    plane = found(maps)
    assert plane is not None
    assert plane.height_m == pytest.approx(1.0, rel=0.01)


def test_table_tops_are_no_floor_where_only_normals_say_what_faces_up() -> None:
    world = World(pitch_deg=25.0, boxes=[((1.0, 2.6), (-1.2, 0.8), (0.0, 0.5), TABLE)])
    plane = found(without(world.maps(), labels=True))
    assert plane is not None
    assert plane.height_m == pytest.approx(1.0, rel=0.01)


def test_walls_that_are_taken_for_floor_do_not_turn_it() -> None:
    world = World(pitch_deg=15.0)
    maps = world.maps()
    assert maps.labels is not None
    labels = maps.labels.labels.copy()
    labels[:, : SIZE[1] // 3] = FLOOR  # wall and ceiling of the left third too
    for named in (changed(maps, labels=labels), without(changed(maps, labels=labels), normals=True)):
        plane = found(named)
        assert plane is not None
        assert plane.height_m == pytest.approx(1.0, rel=0.01)
        assert tilt_deg(plane, world) < 0.5


def test_wrong_normals_of_a_third_of_the_floor_do_not_turn_it() -> None:
    world = World(pitch_deg=20.0)
    maps = world.maps()
    assert maps.normals is not None
    normals = maps.normals.normals.copy()
    normals[:, ::3] = (0.6, -0.8, 0.0)
    plane = found(CloudMaps(maps.depth, maps.labels, NormalMap(maps.normals.spec, normals)))
    assert plane is not None
    assert tilt_deg(plane, world) < 0.5
    assert plane.height_m == pytest.approx(1.0, rel=0.01)


def test_noise_and_holes_in_depth_are_averaged_out() -> None:
    random = np.random.default_rng(0)
    world = World(pitch_deg=20.0)
    maps = world.maps()
    noisy = maps.depth.depth_m * random.normal(1.0, 0.05, SIZE)
    noisy[random.random(SIZE) < 0.3] = np.nan
    plane = found(changed(maps, depth=noisy))
    assert plane is not None
    assert plane.height_m == pytest.approx(1.0, rel=0.02)
    fitted = found(without(changed(maps, depth=noisy), normals=True))
    assert fitted is not None
    assert tilt_deg(fitted, world) < 2.0


@pytest.mark.parametrize("share", [0.004, 0.0])
def test_too_little_floor_is_none(share: float) -> None:
    maps = World(pitch_deg=0.0).maps()
    labels = np.full(SIZE, WALL)
    labels.flat[-int(share * labels.size) or labels.size :] = FLOOR if share else WALL
    assert found(changed(maps, labels=labels)) is None


@pytest.mark.parametrize("depth", [np.nan, 0.0, -1.0])
def test_no_depth_is_no_floor(depth: float) -> None:
    maps = changed(World().maps(), depth=np.full(SIZE, depth))
    assert found(maps) is None
    assert found(without(maps, normals=True)) is None


def test_all_points_on_one_line_are_no_floor() -> None:
    maps = World(pitch_deg=20.0).maps()
    labels = np.full(SIZE, WALL)
    labels[:, 79:81] = FLOOR
    assert find_floor(without(changed(maps, labels=labels), normals=True), CAMERA, classes=CLASSES, stride=2) is None


def test_a_floor_remembered_is_that_of_before_and_is_forgotten_in_time() -> None:
    world, tracker, options = World(pitch_deg=20.0), FloorTracker(), FloorOptions(stride=2, keep_s=5.0)
    blind = changed(world.maps(), labels=np.full(SIZE, WALL))
    assert tracker(blind, CAMERA, 0.0, options).plane is None
    seen = tracker(world.maps(), CAMERA, 1.0, options)
    kept = tracker(blind, CAMERA, 5.5, options)
    assert seen.plane is not None
    assert kept.plane is not None
    assert kept.plane.height_m == pytest.approx(seen.plane.height_m)
    assert "not seen for 4.5 s" in kept.text
    forgotten = tracker(blind, CAMERA, 6.5, options)
    assert forgotten.plane is None
    assert "not seen" in forgotten.text
    tracker(world.maps(), CAMERA, 7.0, options)
    assert tracker(blind, CAMERA, 2.0, options).plane is None, "time that jumps back is another tour"


def test_one_frame_with_a_wrong_angle_does_not_turn_the_floor_of_a_fixed_camera() -> None:
    world, tracker, options = World(pitch_deg=20.0), FloorTracker(), FloorOptions(stride=2)
    for number in range(5):
        tracker(world.maps(), CAMERA, float(number) * 0.1, options)
    wrong = World(pitch_deg=28.0).maps()
    plane = tracker(wrong, CAMERA, 0.6, options).plane
    assert plane is not None
    assert tilt_deg(plane, world) < 0.5


def test_the_camera_s_height_scales_what_is_seen_and_refuses_what_cannot_be_the_floor() -> None:
    world, options = World(pitch_deg=20.0), FloorOptions(stride=2, height_m=1.0)
    far = changed(world.maps(), depth=world.maps().depth.depth_m * 1.4)
    tracked = FloorTracker()(far, CAMERA, 0.0, options)
    assert tracked.plane is not None
    assert tracked.plane.height_m == pytest.approx(1.0)
    assert tracked.scale == pytest.approx(1 / 1.4, rel=0.01)
    wild = changed(world.maps(), depth=world.maps().depth.depth_m * 2.5)
    assert FloorTracker()(wild, CAMERA, 0.0, options).plane is None


def test_a_mount_gives_the_angle_and_the_plane_while_no_floor_is_seen() -> None:
    world, options = World(pitch_deg=20.0), FloorOptions(stride=2, height_m=1.0, pitch_deg=20.0)
    blind = changed(world.maps(), labels=np.full(SIZE, WALL))
    given = FloorTracker()(blind, CAMERA, 0.0, options)
    assert given.plane is not None
    assert (given.plane.height_m, given.scale) == (1.0, 1.0)
    assert tilt_deg(given.plane, world) < 1e-3
    skewed = World(pitch_deg=24.0).maps()
    seen = FloorTracker()(skewed, CAMERA, 0.0, options)
    assert seen.plane is not None
    assert tilt_deg(seen.plane, world) < 1e-3
