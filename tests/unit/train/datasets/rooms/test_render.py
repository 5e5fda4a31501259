"""Rendered rooms: the ground truth is exact, and every frame is decided by its seed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mtl.datasets.rooms import CLASS_NAMES, PALETTE, RENDERER_VERSION, VOID, Label, RenderOptions, RoomSample, render_room
from mtl.datasets.rooms.instances import OBJECT_CLASSES
from mtl.datasets.rooms.preview import contact_sheet
from mtl.datasets.worlds.camera import Intrinsics

HEIGHT, WIDTH = 48, 64
TRAIN = Path(__file__).parents[5] / "train"
UPRIGHT = RenderOptions(wide_fraction=0.0)
WIDE = RenderOptions(wide_fraction=1.0)
FLAWED = RenderOptions(wide_fraction=0.0, invalid_depth=True, void_labels=True)


@cache
def room(seed: int, options: RenderOptions = UPRIGHT) -> RoomSample:
    return render_room(seed, HEIGHT, WIDTH, options=options)


def points_m(sample: RoomSample) -> np.ndarray:
    """(H, W, 3) camera-frame points from depth and intrinsics."""
    fx, fy, cx, cy = sample.intrinsics
    v, u = np.mgrid[: sample.depth_m.shape[0], : sample.depth_m.shape[1]]
    return np.stack([(u - cx) / fx, (v - cy) / fy, np.ones_like(u)], -1) * sample.depth_m[..., None]


def flat(sample: RoomSample) -> np.ndarray:
    """(H - 2, W - 2) bool: pixels whose eight neighbours have the same normal and lie in the same plane."""
    points, normals = points_m(sample), sample.normals
    height, width = sample.depth_m.shape
    middle, normal = points[1:-1, 1:-1], normals[1:-1, 1:-1]
    result = sample.depth_m[1:-1, 1:-1] > 0
    for dy in range(3):
        for dx in range(3):
            window = slice(dy, height - 2 + dy), slice(dx, width - 2 + dx)
            result &= np.abs(normals[window] - normal).max(-1) < 1e-4
            result &= np.abs(((points[window] - middle) * normal).sum(-1)) < 2e-3
    return result


@pytest.mark.parametrize("seed", [0, 7, 1_000_000_003])
def test_the_same_seed_gives_the_same_arrays(seed):
    again = render_room(seed, HEIGHT, WIDTH, options=UPRIGHT)
    for name in ("image", "label", "depth_m", "normals"):
        assert np.array_equal(getattr(room(seed), name), getattr(again, name))
    assert again.intrinsics == room(seed).intrinsics


def test_another_process_with_other_thread_settings_gives_the_same_bits():
    code = (
        "import hashlib; from mtl.datasets.rooms import RenderOptions, render_room\n"
        f"sample = render_room(7, {HEIGHT}, {WIDTH}, options=RenderOptions(wide_fraction=0.0))\n"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in (sample.image, sample.depth_m, sample.normals))).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(TRAIN), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    sample = room(7)
    here = hashlib.sha256(b"".join(array.tobytes() for array in (sample.image, sample.depth_m, sample.normals)))
    assert told.stdout.strip() == here.hexdigest()


def test_different_seeds_give_different_rooms():
    assert not np.array_equal(room(0).image, room(1).image)


@pytest.mark.parametrize(
    ("seed", "mean_rgb", "depth_m", "walls"),
    [(3, (115.60, 109.00, 109.58), 2.435, 944), (7, (172.13, 155.07, 146.71), 2.152, 1262)],
)
def test_pictures_change_only_together_with_the_renderer_version(seed, mean_rgb, depth_m, walls):
    """Caches are found by RENDERER_VERSION: whoever changes what is drawn raises it, and these numbers."""
    assert RENDERER_VERSION == 1
    np.testing.assert_allclose(room(seed).image.mean((0, 1)), mean_rgb, atol=0.2)
    assert room(seed).depth_m.mean() == pytest.approx(depth_m, abs=0.002)
    assert (room(seed).label == Label.WALL).sum() == pytest.approx(walls, abs=4)


@pytest.mark.parametrize(
    ("seed", "digests"),
    [
        (3, ["9668a9fcddddff31", "5a8e10683773202c", "c0b0ea8a2c15da0c", "e9b9766f6115d240"]),
        (7, ["b6b6e55c342f5185", "a29f9e5be62745dd", "1174b910ec5a84a5", "399f48f8321f5ae3"]),
    ],
)
def test_not_one_pixel_has_changed_since_there_are_objects(seed, digests):
    """Rooms of before and after lie in the same folders. The same on processors with AVX-512, with AVX2, and without."""
    sample = room(seed)
    maps = (sample.image, sample.label, sample.depth_m, sample.normals)
    assert [hashlib.sha256(one.tobytes()).hexdigest()[:16] for one in maps] == digests


def test_a_larger_frame_shows_the_same_view():
    small, large = room(3), render_room(3, 2 * HEIGHT, 2 * WIDTH, options=UPRIGHT)
    assert large.intrinsics[0] == pytest.approx(2 * small.intrinsics[0])
    # pixel centres at integers: the corner between four large pixels is the middle of the small one
    assert large.intrinsics[2] == pytest.approx(2 * small.intrinsics[2] + 0.5)
    agreeing = (large.label[::2, ::2] == small.label).mean()
    assert agreeing > 0.85


def test_shapes_and_types_are_as_promised():
    sample = room(0)
    assert sample.image.shape == (HEIGHT, WIDTH, 3)
    assert sample.image.dtype == np.uint8
    assert sample.label.shape == (HEIGHT, WIDTH)
    assert sample.label.dtype == np.uint8
    assert sample.depth_m.shape == (HEIGHT, WIDTH)
    assert sample.depth_m.dtype == np.float32
    assert sample.normals.shape == (HEIGHT, WIDTH, 3)
    assert sample.normals.dtype == np.float32
    assert sample.seed == 0


@pytest.mark.parametrize("seed", range(6))
def test_normals_are_unit_and_face_the_camera(seed):
    sample = room(seed)
    assert np.abs(np.linalg.norm(sample.normals, axis=-1) - 1).max() < 1e-5
    assert (sample.normals * points_m(sample)).sum(-1).max() <= 1e-4
    assert (sample.normals[..., 2] < 0).mean() > 0.9


@pytest.mark.parametrize("seed", range(6))
def test_normals_agree_with_the_gradient_of_depth_on_flat_areas(seed):
    sample = room(seed)
    points, level = points_m(sample), flat(sample)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    from_depth = -np.cross(across, down)
    from_depth /= np.linalg.norm(from_depth, axis=-1, keepdims=True)
    cosine = (from_depth * sample.normals[1:-1, 1:-1]).sum(-1)[level]
    assert level.mean() > 0.25
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < 0.1


def floor_bend_m(sample: RoomSample, shift_px: float) -> float:
    """How far the bare floor is from one plane when the principal point is moved by some pixels."""
    fx, fy, cx, cy = sample.intrinsics
    moved = RoomSample(sample.image, sample.label, sample.depth_m, sample.normals, (fx, fy, cx, cy + shift_px), sample.seed)
    floor = sample.label == Label.FLOOR
    up = np.median(sample.normals[floor], axis=0)
    height = (points_m(sample) * up).sum(-1)
    bare = floor & (height < height[floor].min() + 0.002)  # a rug lies higher
    return float(np.ptp((points_m(moved)[bare] * up).sum(-1)))


def rooms_with_floor() -> list[RoomSample]:
    return [room(seed) for seed in range(12) if (room(seed).label == Label.FLOOR).mean() > 0.1]


def test_the_floor_is_one_plane_under_the_intrinsics():
    assert len(rooms_with_floor()) > 2
    assert max(floor_bend_m(sample, shift_px=0.0) for sample in rooms_with_floor()) < 1e-4


def test_half_a_pixel_of_error_in_the_intrinsics_would_be_noticed():
    """The control of the test above."""
    assert min(floor_bend_m(sample, shift_px=0.5) for sample in rooms_with_floor()) > 1e-3


def test_the_camera_stands_where_a_robot_or_a_person_would_hold_it():
    heights = []
    for seed in range(12):
        sample = room(seed)
        floor = sample.label == Label.FLOOR
        if floor.sum() > 20:
            up = np.median(sample.normals[floor], axis=0)
            heights.append(-np.median((points_m(sample)[floor] * up).sum(-1)))
    assert len(heights) > 4
    assert min(heights) > 0.35
    assert max(heights) < 1.8


def test_focal_lengths_stay_in_the_range_asked_for():
    canonical = Intrinsics.canonical(HEIGHT, WIDTH)
    assert Intrinsics.canonical(288, 384) == Intrinsics(353.0, 353.0, 191.5, 143.5)
    factors = [room(seed).intrinsics[0] / canonical.fx for seed in range(12)]
    assert min(factors) >= 0.8
    assert max(factors) <= 1.25
    assert max(factors) - min(factors) > 0.1
    assert all(room(seed).intrinsics[0] == room(seed).intrinsics[1] for seed in range(12))
    fixed = RenderOptions(wide_fraction=0.0, focal_factor=(1.0, 1.0))
    assert room(0, fixed).intrinsics == pytest.approx((canonical.fx, canonical.fy, canonical.cx, canonical.cy))


def test_a_wide_frame_is_letterboxed_in_the_middle():
    sample = room(2, WIDE)
    bar = (HEIGHT - round(WIDTH * 9 / 16)) // 2
    assert bar > 0
    for rows in (slice(0, bar), slice(HEIGHT - bar, HEIGHT)):
        assert not sample.image[rows].any()
        assert (sample.label[rows] == VOID).all()
        assert not sample.depth_m[rows].any()
        assert not sample.normals[rows].any()
    inside = slice(bar, HEIGHT - bar)
    assert (sample.label[inside] != VOID).all()
    assert (sample.depth_m[inside] > 0).all()
    assert sample.intrinsics[2:] == ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)


def test_intrinsics_of_a_wide_frame_are_in_canvas_pixels():
    """The same seed seen upright shows the same rays where both have pixels."""
    wide, upright = room(2, WIDE), room(2)
    assert wide.intrinsics == upright.intrinsics
    inside = wide.depth_m > 0
    np.testing.assert_allclose(wide.depth_m[inside], upright.depth_m[inside], rtol=1e-4)
    assert np.array_equal(wide.label[inside], upright.label[inside])


def test_some_frames_are_wide_by_default():
    wide = [(render_room(seed, 24, 32).label[0] == VOID).all() for seed in range(16)]
    assert 0 < sum(wide) < 10


def test_a_frame_without_flaws_has_no_void_and_no_hole():
    assert (room(0).label != VOID).all()
    assert (room(0).depth_m > 0).all()


def test_flaws_are_made_only_when_asked_for_and_leave_the_rest_alone():
    for seed in range(3):
        flawed, whole = room(seed, FLAWED), room(seed)
        hole, void = flawed.depth_m == 0, flawed.label == VOID
        assert 0.005 < hole.mean() < 0.5
        assert 0.005 < void.mean() < 0.5
        assert np.array_equal(flawed.depth_m[~hole], whole.depth_m[~hole])
        assert np.array_equal(flawed.label[~void], whole.label[~void])
        assert not flawed.normals[hole].any()
        assert np.abs(np.linalg.norm(flawed.normals[~hole], axis=-1) - 1).max() < 1e-5
        assert np.array_equal(flawed.image, whole.image)


def test_every_class_occurs_and_a_view_shows_several():
    shown = [np.unique(room(seed).label) for seed in range(24)]
    seen = set(np.concatenate(shown).tolist())
    assert seen == set(range(len(CLASS_NAMES)))
    assert np.mean([len(classes) for classes in shown]) > 5


def test_class_names_are_the_nyu_thirteen_in_order():
    assert CLASS_NAMES == (
        "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall", "window",
    )  # fmt: skip
    assert PALETTE.shape == (13, 3)


def test_images_are_well_exposed():
    means = [room(seed).image.mean() for seed in range(12)]
    assert min(means) > 40
    assert max(means) < 220
    assert min(room(seed).image.std() for seed in range(12)) > 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"focal_factor": (1.2, 0.8)}, "focal_factor"), ({"wide_fraction": 1.5}, "wide_fraction"), ({"noise": -1.0}, "noise")],
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RenderOptions(**changes)


def test_a_tiny_frame_or_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="at least 16 pixels"):
        render_room(0, 8, 64)
    with pytest.raises(ValueError, match="seed"):
        render_room(-1, HEIGHT, WIDTH)


def test_a_contact_sheet_draws_boxes_and_names_the_room():
    sample = render_room(0, 96, 128, options=UPRIGHT)
    drawn, bare = contact_sheet([sample]), contact_sheet([replace(sample, objects=None, scene=None)])
    assert np.array_equal(bare[:, :128], sample.image)
    assert np.array_equal(drawn[:, 128:], bare[:, 128:])
    assert sample.objects is not None
    left, _, right, bottom = sample.objects.visible[0]
    colour = PALETTE[CLASS_NAMES.index(OBJECT_CLASSES[sample.objects.classes[0]])]
    edge = drawn[round(bottom - 0.5), round(left + 0.5) : round(right - 0.5)]
    assert (edge == colour).all(1).mean() > 0.5
    without = contact_sheet([replace(sample, objects=None)])
    assert not np.array_equal(without[84:96, 64:128], bare[84:96, 64:128]), "the kind of room, in the corner"


def test_a_contact_sheet_shows_four_pictures_a_frame():
    assert contact_sheet([room(0), room(1), room(2)], columns=2).shape == (2 * HEIGHT, 2 * 4 * WIDTH, 3)
