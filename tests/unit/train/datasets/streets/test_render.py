"""Rendered streets: the ground truth is exact, light moves nothing, and every frame is decided by its seed."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from mtl.datasets.bdd100k.lane_bits import BACKGROUND, lane_classes
from mtl.datasets.streets import RENDERER_VERSION, StreetOptions, StreetSample, render_street
from mtl.datasets.streets.classes import OBJECT_CLASSES, TIMES, WEATHERS, Drivable, Label
from mtl.datasets.streets.layout import make_street
from mtl.datasets.streets.light import fogged
from mtl.datasets.streets.preview import contact_sheet
from mtl.datasets.streets.render import StreetView
from mtl.datasets.streets.road import FAR_M, ZONE_LABELS
from mtl.datasets.streets.scene import GROUND, SKY
from mtl.datasets.worlds.objects import SeenObjects

HEIGHT, WIDTH = 48, 80
SEEDS = (0, 3, 4, 9, 14)
MAPS = ("label", "drivable", "lanes", "depth_m", "normals")


@cache
def view(seed: int, options: StreetOptions = StreetOptions()) -> StreetView:  # noqa: B008  (frozen)
    return StreetView.of(seed, HEIGHT, WIDTH, options=options)


@cache
def street(seed: int, options: StreetOptions = StreetOptions()) -> StreetSample:  # noqa: B008  (frozen)
    return view(seed, options).rendered()


def brute_force(one: StreetView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth and surface numbers from every ray cast at every primitive; the rays."""
    rays = one.caster.view(one.pose, one.lens, HEIGHT, WIDTH)[2].reshape(3, -1)
    nearest, winner = one.caster.backdrop.hit(one.pose.position_m[:, None], rays)
    for which in range(len(one.caster.owner)):
        distance = one.caster.hit(which, one.pose.position_m, rays)
        closer = distance < nearest
        nearest[closer], winner[closer] = distance[closer], which
    return nearest, winner, rays


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_equal_the_analytic_functions_at_every_pixel(seed):
    one, sample = view(seed), street(seed)
    nearest, winner, rays = brute_force(one)
    points = one.pose.position_m[:, None] + rays * nearest
    along, across = one.street.road.locate(points[0], points[1])
    ground = winner == GROUND
    expected = np.where(winner == SKY, np.uint8(Label.SKY), ZONE_LABELS[one.street.road.zones(across)])
    solid = winner >= 0
    labels = np.array([shape.label for _, shape in one.caster.owner], np.uint8)
    expected[solid] = labels[winner[solid]]
    assert (sample.label.ravel() == expected).mean() > 0.995, "rays that graze an edge may fall on either side"
    drivable = np.where(ground, one.street.road.drivable(along, across), Drivable.BACKGROUND)
    assert (sample.drivable.ravel() == drivable).mean() > 0.995
    lanes = np.where(ground, one.street.road.lane_bits(along, across, nearest / np.float32(one.lens.fx)), BACKGROUND)
    assert (sample.lanes.ravel() == lanes).mean() > 0.995
    depth = np.where(nearest > FAR_M, 0, nearest)
    both = sample.label.ravel() == expected
    np.testing.assert_allclose(sample.depth_m.ravel()[both], depth[both], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_equal_the_masks_of_instances(seed):
    one, sample = view(seed), street(seed)
    _, winner, _ = brute_force(one)
    owner = np.full(len(winner), -1)
    solid = winner >= 0
    owner[solid] = np.array([one.caster.pieces.index(piece) for piece, _ in one.caster.owner])[winner[solid]]
    owner = owner.reshape(HEIGHT, WIDTH)
    objects = sample.objects
    columns_of = zip(objects.visible.tolist(), objects.classes.tolist(), objects.pixels.tolist(), strict=True)
    found = {tuple(box): (index, pixels) for box, index, pixels in columns_of}
    wanted = 0
    for number, index in enumerate(one.street.classes):
        rows, columns = np.nonzero(owner == number)
        if index is None or len(rows) < 12:
            continue
        box = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
        if min(box[2] - box[0], box[3] - box[1]) < 2:
            continue
        wanted += 1
        assert found[box] == (index, len(rows)), OBJECT_CLASSES[index]
    assert wanted > 0
    assert ((sample.objects.share > 0) & (sample.objects.share <= 1)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_normals_are_those_of_finite_differences_of_depth(seed):
    sample = render_street(seed, 96, 160)
    fx, fy, cx, cy = sample.intrinsics
    v, u = np.mgrid[:96, :160]
    points = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones_like(u)], -1) * sample.depth_m[..., None].astype(np.float64)
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    measured = np.cross(down, across)
    measured /= np.maximum(np.linalg.norm(measured, axis=-1, keepdims=True), 1e-12)
    middle = sample.normals[1:-1, 1:-1]
    same = np.ones(middle.shape[:2], bool)
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            same &= np.abs(sample.normals[dy : 94 + dy, dx : 158 + dx] - middle).max(-1) < 1e-4
            same &= sample.depth_m[dy : 94 + dy, dx : 158 + dx] > 0
    near = 1e-3 * sample.depth_m[1:-1, 1:-1]
    for neighbour in (points[1:-1, 2:], points[2:, 1:-1]):
        same &= np.abs(((neighbour - points[1:-1, 1:-1]) * middle).sum(-1)) < near
    assert same.sum() > 500
    angle = np.degrees(np.arccos(np.abs((measured * middle).sum(-1))[same].clip(-1, 1)))
    assert np.median(angle) < 0.5
    assert (middle[same][:, :] * points[1:-1, 1:-1][same]).sum(-1).max() < 0, "towards the camera"


@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("time", TIMES)
def test_light_and_weather_change_no_truth(weather, time):
    calm = street(3, StreetOptions(weathers=("clear",), times=("daytime",)))
    other = street(3, StreetOptions(weathers=(weather,), times=(time,)))
    for name in MAPS:
        assert np.array_equal(getattr(calm, name), getattr(other, name)), name
    for field in fields(SeenObjects):
        assert np.array_equal(getattr(calm.objects, field.name), getattr(other.objects, field.name))
    if (weather, time) != ("clear", "daytime"):
        assert not np.array_equal(calm.image, other.image)
        assert (other.weather, other.time) == (WEATHERS.index(weather), TIMES.index(time))


def test_night_is_darker_and_fog_is_flatter():
    day, night, fog = (
        [street(seed, StreetOptions(weathers=(weather,), times=(time,), noise=0.0)).image.astype(float) for seed in SEEDS]
        for weather, time in (("clear", "daytime"), ("clear", "night"), ("foggy", "daytime"))
    )

    def contrast(images: list[np.ndarray]) -> float:
        return float(np.mean([np.abs(np.diff(one, axis=1)).mean() for one in images]))

    assert np.mean(night) < 0.6 * np.mean(day)
    assert contrast(fog) < 0.6 * contrast(day)


def test_fog_follows_koschmieder():
    conditions = replace(view(3).conditions, extinction=0.05, haze=(0.5, 0.6, 0.7))
    light = np.full((3, 3), 2.0, np.float32)
    directions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.75], [1.0, 1.0, 1.0]], np.float32)
    seen = fogged(light, np.array([0.0, 1e4, 20.0], np.float32), directions, conditions)
    assert np.allclose(seen[:, 0], 2.0), "no air in front"
    assert np.allclose(seen[:, 1], [0.5, 0.6, 0.7]), "endless air"
    assert np.allclose(seen[:, 2], np.array([0.5, 0.6, 0.7]) + np.array([1.5, 1.4, 1.3]) * np.exp(-0.05 * 25)), "along the ray"
    clear = fogged(light, np.full(3, 50.0, np.float32), directions, replace(conditions, extinction=0.0))
    assert np.array_equal(clear, light)


@pytest.mark.parametrize("seed", [3, 1_000_000_003])
def test_the_same_seed_gives_the_same_arrays(seed):
    again = render_street(seed, HEIGHT, WIDTH)
    for name in ("image", *MAPS, "truncated"):
        assert np.array_equal(getattr(street(seed), name), getattr(again, name))
    assert again.intrinsics == street(seed).intrinsics
    assert not np.array_equal(street(0).image, street(3).image)


@pytest.mark.parametrize(
    ("seed", "digests"),
    [
        (3, ["8f48426a1605914a", "7da6ba4f462d78e6", "9824a03b104a1666", "7b8d9b1991a7a621", "c58614458c2397d9"]),
        (14, ["d0028021c5569ad5", "7c51182eba4daa55", "5d722915b52c7a23", "d3fbbbaf5dae60a1", "5f3e0b5ddc7e37ce"]),
    ],
)
def test_truths_change_only_together_with_the_renderer_version(seed, digests):
    """Caches are found by RENDERER_VERSION: whoever changes what is drawn raises it, and these."""
    assert RENDERER_VERSION == 1
    sample = street(seed)
    maps = [getattr(sample, name) for name in ("label", "drivable", "lanes")] + [sample.objects.visible, sample.truncated]
    assert [hashlib.sha256(one.tobytes()).hexdigest()[:16] for one in maps] == digests
    assert sample.image.mean() == pytest.approx({3: 112.27, 14: 141.73}[seed], abs=0.3)


def test_a_street_where_traffic_keeps_left_is_a_mirror_image():
    rng = [np.random.default_rng(7) for _ in range(2)]
    right, left = (
        make_street(one, "city street", left_hand=hand, dark=False, wet=0.0)
        for one, hand in zip(rng, (False, True), strict=True)
    )
    assert len(right.pieces) == len(left.pieces) > 20
    for one, other in zip(right.pieces, left.pieces, strict=True):
        assert other.position_m == pytest.approx((one.position_m[0], -one.position_m[1], one.position_m[2]), abs=1e-5)
    x, y = np.random.default_rng(1).uniform((0, -20), (60, 20), (500, 2)).T
    for functions in ("drivable",):
        ours = getattr(right.road, functions)(*right.road.locate(x, y))
        assert np.array_equal(ours, getattr(left.road, functions)(*left.road.locate(x, -y)))


def test_streets_hold_what_they_promise():
    samples = [street(seed) for seed in range(40)]
    seen = np.bincount(np.concatenate([one.objects.classes for one in samples]), minlength=len(OBJECT_CLASSES))
    per_frame = [len(one.objects) for one in samples]
    assert 3 < np.mean(per_frame) < 25
    assert (seen[[OBJECT_CLASSES.index(name) for name in ("pedestrian", "car", "truck", "traffic sign")]] > 5).all()
    direct = np.mean([(one.drivable == Drivable.DIRECT).mean() for one in samples])
    lines = np.mean([(lane_classes(one.lanes) == 1).mean() for one in samples])
    assert 0.08 < direct < 0.35
    assert 0.005 < lines < 0.08
    assert len({one.scene for one in samples}) == 3
    assert len({(one.weather, one.time) for one in samples}) > 8
    assert all((one.depth_m <= FAR_M).all() and (one.depth_m[one.label == Label.SKY] == 0).all() for one in samples)


def test_an_object_that_reaches_out_of_the_frame_is_truncated():
    touching, inside = [], []
    for seed in range(30):
        sample = street(seed)
        edge = (sample.objects.amodal[:, [0, 2]] <= -0.5).any(1) | (sample.objects.amodal[:, [0, 2]] >= WIDTH - 0.5).any(1)
        touching += sample.truncated[edge & (sample.objects.amodal[:, 2] - sample.objects.amodal[:, 0] > 6)].tolist()
        well_in = (sample.objects.amodal[:, 0] > 8) & (sample.objects.amodal[:, 2] < WIDTH - 9)
        inside += sample.truncated[
            well_in & (sample.objects.amodal[:, 3] < HEIGHT - 9) & (sample.objects.amodal[:, 1] > 8)
        ].tolist()
    assert np.mean(touching) > 0.9
    assert len(inside) > 20
    assert not any(inside)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weathers": ("snowy",)}, "weathers should be some of clear"),
        ({"times": ()}, "found none"),
        ({"camera_m": (2.0, 1.0)}, "camera_m is (low, high)"),
        ({"left_hand": 1.5}, "share from 0 to 1"),
        ({"noise": -1.0}, "noise is 0 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        StreetOptions(**changes)


def test_frames_that_are_too_small_and_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="at least 16 pixels"):
        render_street(0, 8, 64)
    with pytest.raises(ValueError, match="0 or more"):
        render_street(-1, 48, 64)


def test_a_contact_sheet_shows_every_truth():
    sheet = contact_sheet([street(0), street(3), street(4)], columns=2)
    assert sheet.shape == (2 * HEIGHT, 2 * 5 * WIDTH, 3)
    assert sheet[:, : 5 * WIDTH].std() > 10
    assert not sheet[HEIGHT:, 5 * WIDTH :].any(), "the place of a fourth"
