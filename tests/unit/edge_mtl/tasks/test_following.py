"""Who is in front and how far away, against rendered streets whose plan is known; and what is said where a sense is gone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from edge_mtl.errors import TaskError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import Boxes, DepthMap, Result
from edge_mtl.tasks.following import Following, FollowingOptions, headway_s, look_ahead, road_maps
from edge_mtl.tasks.following_tracking import FollowingTracker
from edge_mtl.tasks.own_lane import own_lane
from tests.streets import DEPTH, DRIVABLE, LANE, OBJECTS, boxes_of, true_street

STRAIGHT, BEND, LEFT_HAND, FAR_BEND = 120, 124, 122, 107
FREE = 125
"""Nothing within 50 m."""
PEDESTRIAN = 100
Results = dict[str, Result]


def found(results: Results, camera: Intrinsics, **options: Any) -> Following:
    chosen = FollowingOptions(**options)
    return look_ahead(road_maps(results, chosen), camera, chosen)


def changed(seed: int, change: Callable[[Results], None] = lambda _: None, **options: Any) -> Following:
    """What is found in a street after its answers were altered."""
    street = true_street(seed)
    results = street.results()
    change(results)
    return found(results, street.camera, **options)


def without_boxes(results: Results) -> None:
    results[OBJECTS] = boxes_of(np.zeros((0, 4)), np.zeros(0, np.int64))


def without_depth(results: Results) -> None:
    results[DEPTH].depth_m[:] = np.nan  # type: ignore[attr-defined]


def without_lane(results: Results) -> None:
    results[DRIVABLE].labels[:] = 2  # type: ignore[attr-defined]


def without_lines(results: Results) -> None:
    results[LANE].labels[:] = 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", [STRAIGHT, BEND, LEFT_HAND, FAR_BEND, 128, 139])
def test_the_leader_is_found_and_its_distance_is_right_within_5_percent(seed: int) -> None:
    street = true_street(seed)
    leader = street.leader()
    assert leader is not None
    seen = changed(seed)
    assert (seen.state, seen.name) == ("vehicle", leader.name)
    assert seen.distance_m == pytest.approx(leader.distance_m, rel=0.05)
    assert seen.box >= 0


def test_these_streets_bend_both_ways_and_some_keep_left() -> None:
    roads = [true_street(seed).view.street.road for seed in (STRAIGHT, BEND, LEFT_HAND, FAR_BEND)]
    assert min(road.curvature for road in roads) < -0.005
    assert max(road.curvature for road in roads) > 0.005
    assert {road.left_hand for road in roads} == {True, False}


@pytest.mark.parametrize("seed", [STRAIGHT, BEND, LEFT_HAND])
def test_the_mirror_image_has_the_same_leader(seed: int) -> None:
    street = true_street(seed)
    results, (_, width) = street.results(), street.sample.label.shape
    mirrored: Results = {}
    for name, result in results.items():
        if isinstance(result, Boxes):
            left, top, right, bottom = result.xyxy.T
            mirrored[name] = boxes_of(np.stack([width - 1 - right, top, width - 1 - left, bottom], 1), result.classes)
        else:
            values = np.ascontiguousarray((result.depth_m if isinstance(result, DepthMap) else result.labels)[:, ::-1])  # type: ignore[attr-defined]
            mirrored[name] = type(result)(result.spec, values)  # type: ignore[call-arg]
    seen = found(mirrored, replace(street.camera, cx=width - 1 - street.camera.cx))
    before = found(results, street.camera)
    assert (seen.name, seen.box) == (before.name, before.box)
    assert seen.distance_m == pytest.approx(before.distance_m, rel=0.01)


@pytest.mark.parametrize("seed", [STRAIGHT, BEND, LEFT_HAND])
def test_vehicles_of_other_lanes_and_parked_ones_are_not_followed(seed: int) -> None:
    """Positive control: the same frame without its leader."""
    seen = changed(seed)

    def remove(results: Results) -> None:
        boxes = results[OBJECTS]
        assert isinstance(boxes, Boxes)
        keep = np.arange(len(boxes)) != seen.box
        assert keep.any()
        results[OBJECTS] = boxes_of(boxes.xyxy[keep], boxes.classes[keep])

    after = changed(seed, remove)
    assert after.state == "unknown", "what ends the lane is not known any more"
    assert after.clear_m == pytest.approx(seen.distance_m, rel=0.15)


def test_nothing_in_front_is_said_where_lane_and_depth_are_free() -> None:
    seen = changed(FREE)
    assert (seen.state, seen.name, seen.box) == ("clear", "", -1)
    assert 45 < seen.clear_m < 56
    assert math.isnan(seen.distance_m)
    assert changed(FREE, within_m=60.0).state == "unknown", "so far the lane is not known to be free"


@pytest.mark.parametrize("take", [without_boxes, without_depth, without_lane])
@pytest.mark.parametrize("seed", [STRAIGHT, BEND])
def test_with_one_sense_gone_nothing_is_invented(seed: int, take: Callable[[Results], None]) -> None:
    seen = changed(seed, take)
    assert seen.state == "unknown"
    assert seen.why
    assert math.isnan(seen.distance_m)
    assert not seen.clear_m > 1.05 * true_street(seed).leader().distance_m  # type: ignore[union-attr]


@pytest.mark.parametrize("take", [without_depth, without_lane])
def test_with_one_sense_gone_an_empty_lane_is_not_called_clear(take: Callable[[Results], None]) -> None:
    seen = changed(FREE, take)
    assert (seen.state, seen.clear_m) == ("unknown", 0.0)


def test_a_leader_is_found_without_lines_of_lanes_too() -> None:
    assert changed(BEND, without_lines).box == changed(BEND).box
    assert changed(BEND, lambda results: results.__delitem__(LANE)).box == changed(BEND).box


def test_lines_cut_off_a_lane_that_was_labelled_too_wide() -> None:
    street = true_street(LEFT_HAND)
    results = street.results()
    results[DRIVABLE].labels[results[DRIVABLE].labels == 1] = 0  # type: ignore[attr-defined]
    wide = results[DRIVABLE].labels == 0  # type: ignore[attr-defined]
    lines = results[LANE].labels == 1  # type: ignore[attr-defined]
    free, cut = own_lane(wide, None, middle=street.camera.cx), own_lane(wide, lines, middle=street.camera.cx)
    true = own_lane(street.sample.drivable == 0, None, middle=street.camera.cx)
    assert free is not None and cut is not None and true is not None  # noqa: PT018
    row = 150
    assert np.diff(cut.at(row))[0] <= np.diff(free.at(row))[0]
    assert np.allclose(cut.at(row), true.at(row), atol=8)


def test_depth_that_contradicts_the_road_is_not_believed() -> None:
    def flat(results: Results) -> None:
        results[DEPTH].depth_m[:] = 60.0  # type: ignore[attr-defined]

    assert changed(FREE, flat).state == "unknown", "the road stands upright"

    def something(results: Results) -> None:
        depth = results[DEPTH].depth_m  # type: ignore[attr-defined]
        inside = (depth > 20) & (depth < 30) & (results[DRIVABLE].labels == 0)  # type: ignore[attr-defined]
        depth[inside] = 10.0

    seen = changed(FREE, something)
    assert seen.state == "unknown", "something that has neither box nor label stands on the lane"
    assert seen.clear_m < 21


def test_a_vehicle_of_unknown_depth_is_said_to_be_there() -> None:
    def hole(results: Results) -> None:
        boxes, depth = results[OBJECTS], results[DEPTH].depth_m  # type: ignore[attr-defined]
        left, top, right, bottom = boxes.xyxy[changed(STRAIGHT).box].astype(int)  # type: ignore[attr-defined]
        depth[top : bottom + 1, left : right + 1] = np.nan

    seen = changed(STRAIGHT, hole)
    assert (seen.state, seen.name) == ("unknown", "car")
    assert "car is in the lane" in seen.why
    assert math.isnan(seen.distance_m)


def test_a_pedestrian_in_the_lane_is_something_other_than_a_vehicle() -> None:
    seen = changed(PEDESTRIAN)
    assert (seen.state, seen.name) == ("other", "pedestrian")
    assert changed(PEDESTRIAN, others=()).state != "clear"


def test_a_vehicle_that_hides_the_lane_is_in_front() -> None:
    """So near that no road is seen before it."""
    street = true_street(STRAIGHT)
    results, camera = street.results(), street.camera
    height = len(street.sample.label)
    without_lane(results)
    results[DEPTH].depth_m[:] = np.nan  # type: ignore[attr-defined]
    results[DEPTH].depth_m[40:, 60:260] = 2.5  # type: ignore[attr-defined]
    near = np.array([[60, 40, 260, height - 0.5]])
    car = np.array([2])
    results[OBJECTS] = boxes_of(near, car)
    assert found(results, camera).distance_m == pytest.approx(2.5)
    results[OBJECTS] = boxes_of(near + np.array([190, 0, 190, 0]), car)
    assert found(results, camera).state == "unknown", "beside"


def imperfect(results: Results, seed: int) -> None:
    """Depth is off by a tenth here and there, boxes by a few pixels, and labels are as coarse as a network's."""
    random = np.random.default_rng(seed)
    for name in (DRIVABLE, LANE):
        labels = results[name].labels  # type: ignore[attr-defined]
        labels[:] = labels[1::4, 1::4].repeat(4, 0).repeat(4, 1)
    depth = results[DEPTH].depth_m  # type: ignore[attr-defined]
    coarse = random.standard_normal((depth.shape[0] // 16, depth.shape[1] // 16))
    depth *= 1 + 0.1 * coarse.repeat(16, 0).repeat(16, 1)
    boxes = results[OBJECTS]
    assert isinstance(boxes, Boxes)
    boxes.xyxy[:] += random.normal(0, 1.0, boxes.xyxy.shape)


@pytest.mark.parametrize("seed", [STRAIGHT, BEND, LEFT_HAND])
def test_answers_as_imperfect_as_a_networks_still_have_the_leader(seed: int) -> None:
    right, seen = changed(seed), changed(seed, partial(imperfect, seed=seed))
    assert (seen.state, seen.box) == ("vehicle", right.box)
    assert seen.distance_m == pytest.approx(right.distance_m, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("alter", "right", "near"), [(False, 41, 40), (True, 35, 17)])
def test_of_45_streets_most_leaders_are_found_and_none_near_is_called_clear(alter: bool, right: int, near: int) -> None:
    """The figures of docs/guides/examples.md."""
    errors = []
    for seed in range(100, 145):
        street = true_street(seed)
        leader, seen = street.leader(), changed(seed, partial(imperfect, seed=seed) if alter else lambda _: None)
        assert leader is not None
        assert seen.state != "clear" or leader.distance_m > 30.0, seed
        if seen.state == "vehicle":
            errors.append(abs(seen.distance_m / leader.distance_m - 1))
    found = np.array(errors)
    print(len(found), (found < 0.15).sum(), (found < 0.05).sum(), np.median(found))
    assert (found < 0.15).sum() >= right
    assert (found < 0.05).sum() >= near


@pytest.mark.parametrize("task", [OBJECTS, DRIVABLE, DEPTH])
def test_a_bundle_without_a_task_is_a_typed_error_that_names_it(task: str) -> None:
    results = true_street(STRAIGHT).results()
    del results[task]
    with pytest.raises(TaskError, match={OBJECTS: "no boxes", DRIVABLE: "class direct", DEPTH: "no depth"}[task]):
        road_maps(results)


def test_headway_is_time() -> None:
    assert headway_s(22.0, 10.0, bumper_m=2.0) == pytest.approx(2.0)
    assert headway_s(1.0, 10.0, bumper_m=2.0) == 0.0
    assert math.isnan(headway_s(22.0, 0.0))
    assert math.isnan(headway_s(math.nan, 10.0))


def car_at(distance_m: float, name: str = "car") -> Following:
    return Following("vehicle", f"a {name} is in the lane", name, 0, distance_m)


NOTHING, FREE_ROAD = Following("unknown", "no own lane is seen"), Following("clear", "free", clear_m=50.0)


def test_noise_is_smoothed_and_a_closing_vehicle_is_followed_without_lag() -> None:
    random, track = np.random.default_rng(0), FollowingTracker()
    errors, noise = [], []
    for step in range(60):
        true = 40.0 - 5.0 * step / 20
        seen = true * (1 + 0.05 * random.standard_normal())
        answer = track(car_at(seen), step / 20)
        errors.append(answer.distance_m - true)
        noise.append(seen - true)
    assert np.std(errors[20:]) < 0.6 * np.std(noise[20:])
    assert abs(np.mean(errors[20:])) < 0.8
    assert answer.closing_mps == pytest.approx(5.0, abs=2.5)


def test_a_missed_detection_is_bridged_and_called_old_and_then_it_is_over() -> None:
    track = FollowingTracker()
    for step in range(5):
        track(car_at(20.0), 0.1 * step)
    bridged = track(NOTHING, 0.6)
    assert (bridged.state, bridged.name) == ("vehicle", "car")
    assert bridged.age_s == pytest.approx(0.2)
    assert bridged.distance_m == pytest.approx(20.0)
    assert track(NOTHING, 1.5).state == "unknown"


def test_a_frame_that_calls_it_clear_right_after_a_vehicle_is_not_believed_yet() -> None:
    track = FollowingTracker()
    track(car_at(20.0), 0.0)
    doubted = track(FREE_ROAD, 0.1)
    assert doubted.state == "unknown"
    assert "a car was in front 0.1 s ago" in doubted.why
    assert track(FREE_ROAD, 1.0).state == "clear"
    assert track(FREE_ROAD, 1.1).clear_m == 50.0


def test_something_nearer_counts_at_once_and_something_farther_when_it_is_seen_twice() -> None:
    track = FollowingTracker()
    track(car_at(30.0), 0.0)
    assert track(car_at(12.0, "truck"), 0.1).distance_m == pytest.approx(12.0)
    kept = track(car_at(40.0), 0.2)
    assert (kept.name, kept.distance_m) == ("truck", pytest.approx(12.0))
    assert kept.age_s == pytest.approx(0.1)
    assert track(car_at(40.0), 0.3).distance_m == pytest.approx(40.0)


def test_time_that_jumps_back_forgets() -> None:
    track = FollowingTracker()
    track(car_at(30.0), 5.0)
    assert track(NOTHING, 1.0).state == "unknown"
