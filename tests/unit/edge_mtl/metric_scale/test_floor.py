"""The camera's height over a floor that is seen: found at any pitch, through outliers, and refused where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_mtl.errors import FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.metric_scale.estimate import estimate_scale
from edge_mtl.metric_scale.floor import fit_floor, of_height, of_mount

CAMERA = Intrinsics(100.0, 100.0, 79.5, 59.5)
SIZE = (120, 160)
Array = np.ndarray


def room(height_m: float, *, pitch_deg: float = 20.0, roll_deg: float = 0.0, wall_m: float = 4.0) -> tuple[Array, Array, Array]:
    """(depth, floor, normals) of a floor under the camera and a wall across: (H, W), (H, W) bool, (H, W, 3)."""
    pitch, roll = math.radians(pitch_deg), math.radians(roll_deg)
    down = np.array([math.sin(roll) * math.cos(pitch), math.cos(roll) * math.cos(pitch), math.sin(pitch)])
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.dstack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(SIZE)])
    with np.errstate(divide="ignore"):
        to_floor = np.where(rays @ down > 0.01, height_m / (rays @ down), np.inf)
    floor = to_floor < wall_m
    normals = np.where(floor[..., None], -down, [0.0, 0.0, -1.0]).astype(np.float32)
    return np.minimum(to_floor, wall_m).astype(np.float32), floor, normals


@pytest.mark.parametrize("pitch_deg", [0.0, 15.0, 45.0, 70.0])
@pytest.mark.parametrize("roll_deg", [0.0, -10.0])
def test_height_is_found_at_any_pitch_with_or_without_labels(pitch_deg: float, roll_deg: float) -> None:
    depth, floor, normals = room(0.85, pitch_deg=pitch_deg, roll_deg=roll_deg)
    for labels in (floor, None):
        plane = fit_floor(depth, CAMERA, floor=labels, normals=normals)
        assert plane.height_m == pytest.approx(0.85, rel=0.01)
        assert plane.normal[2] == pytest.approx(math.sin(math.radians(pitch_deg)), abs=0.02)


def test_the_factor_survives_noise_and_a_third_of_the_floor_being_something_else() -> None:
    random = np.random.default_rng(0)
    depth, floor, normals = room(0.85 / 1.28, pitch_deg=25.0)
    depth = depth * np.exp(random.normal(0.0, 0.02, SIZE)).astype(np.float32)
    clutter = floor & (np.arange(SIZE[1]) < 45)[None, :]
    depth[clutter] *= 0.7
    assert 0.2 < clutter.sum() / floor.sum() < 0.4
    plane = fit_floor(depth, CAMERA, floor=floor, normals=normals)
    assert plane.explained == pytest.approx(1.0 - clutter.sum() / floor.sum(), abs=0.05)
    found = of_height("f", plane, 0.85)
    assert math.exp(np.median(found.log_ratios)) == pytest.approx(1.28, rel=0.02)
    one = estimate_scale([found])
    assert (one.factor, one.interval) == (pytest.approx(1.28, rel=0.02), None), "one plane is one reading"


def test_a_known_pitch_makes_each_pixel_of_the_floor_a_reading() -> None:
    depth, floor, _ = room(0.85, pitch_deg=25.0)
    bent = (depth / 1.28 * (1.0 + 0.05 * (depth - 2.0))).astype(np.float32)  # a floor that is not quite predicted as a plane
    given = {"floor": floor, "camera_height_m": 0.85, "pitch_deg": 25.0, "farthest_m": 10.0}
    found = of_mount("f", bent, CAMERA, **given)
    np.testing.assert_allclose(found.true_m, found.predicted_m * np.exp(found.log_ratios), rtol=1e-6)
    assert estimate_scale([found]).factor == pytest.approx(1.28, rel=0.05)
    exact = of_mount("f", depth / np.float32(1.28), CAMERA, **given)
    np.testing.assert_allclose(np.exp(exact.log_ratios), 1.28, rtol=1e-4)
    with pytest.raises(FrameError, match=r"0\.0 % of the image is floor"):
        of_mount("f", depth, CAMERA, **{**given, "floor": np.zeros(SIZE, bool)})


def test_what_is_no_floor_is_refused() -> None:
    depth, floor, normals = room(0.85)
    with pytest.raises(FrameError, match=r"0\.0 % of the image is floor.*point the camera lower"):
        fit_floor(depth, CAMERA, floor=np.zeros(SIZE, bool), normals=normals)
    wall = np.full(SIZE, 2.0, np.float32)
    with pytest.raises(FrameError, match=r"no plane below the camera|it is no floor"):
        fit_floor(wall, CAMERA, floor=None, normals=None)
    rolled, side, _ = room(0.85, roll_deg=45.0)
    with pytest.raises(FrameError, match="rolled by 45 degrees"):
        fit_floor(rolled, CAMERA, floor=side, normals=None)
    noise = np.random.default_rng(0).uniform(0.5, 5.0, SIZE).astype(np.float32)
    with pytest.raises(FrameError, match="one plane explains"):
        fit_floor(noise, CAMERA, floor=floor, normals=normals)


def test_a_plane_that_the_normals_do_not_agree_with_is_refused() -> None:
    depth, floor, normals = room(0.85, pitch_deg=20.0)
    _, _, others = room(0.85, pitch_deg=45.0)
    fit_floor(depth, CAMERA, floor=floor, normals=normals)
    with pytest.raises(FrameError, match=r"25 degrees apart, at most 15"):
        fit_floor(depth, CAMERA, floor=floor, normals=np.broadcast_to(others[-1, 80], (*SIZE, 3)))
