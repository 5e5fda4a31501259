"""Readings of points, depth maps and laser scans, on rooms whose geometry is worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_mtl.errors import DepthScaleError, FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.metric_scale.readings import KnownPoint, ScanMount, of_depth, of_points, of_scan

CAMERA = Intrinsics(100.0, 100.0, 79.5, 59.5)
SIZE = (120, 160)


def test_a_distance_along_the_axis_is_taken_as_it_is_and_one_along_the_ray_is_shortened() -> None:
    depth = np.full(SIZE, 2.0, np.float32)
    corner = [KnownPoint(159.0, 59.5, 3.0)]
    assert of_points("f", depth, corner, along="z", camera=None).true_m[0] == pytest.approx(3.0)
    found = of_points("f", depth, corner, along="ray", camera=CAMERA)
    assert found.true_m[0] == pytest.approx(3.0 / math.sqrt(1.0 + 0.795**2))
    assert found.predicted_m[0] == 2.0


def test_a_point_is_the_median_of_its_neighbourhood_and_unknown_pixels_do_not_count() -> None:
    depth = np.full(SIZE, 2.0, np.float32)
    depth[58:60, 79:82] = 9.0
    depth[61] = np.nan
    found = of_points("f", depth, [KnownPoint(80, 60, 1.0), KnownPoint(0, 0, 1.0)], along="z", camera=None)
    np.testing.assert_array_equal(found.predicted_m, [2.0, 2.0])
    np.testing.assert_array_equal(found.block, [0, 1])


def test_points_that_cannot_be_read_are_refused() -> None:
    depth = np.full(SIZE, np.nan, np.float32)
    with pytest.raises(DepthScaleError, match="outside of f, which is 120x160"):
        of_points("f", depth, [KnownPoint(160, 5, 1.0)], along="z", camera=None)
    with pytest.raises(DepthScaleError, match="No depth is predicted at 5,5"):
        of_points("f", depth, [KnownPoint(5, 5, 1.0)], along="z", camera=None)
    with pytest.raises(DepthScaleError, match="--intrinsics"):
        of_points("f", np.ones(SIZE, np.float32), [KnownPoint(5, 5, 1.0)], along="ray", camera=None)


@pytest.mark.parametrize("factor", [0.5, 1, 2, 4])
def test_depth_of_any_resolution_is_compared_pixel_by_pixel(factor: float) -> None:
    """Depth rises along a row; a shift by a pixel of the smaller map would show."""
    size = (int(SIZE[0] * factor), int(SIZE[1] * factor))
    column = (np.arange(size[1]) + 0.5) / factor - 0.5
    true = np.broadcast_to(1.28 * (1.0 + column / 40.0), size)
    predicted = np.broadcast_to((1.0 + np.arange(SIZE[1]) / 40.0).astype(np.float32), SIZE)
    found = of_depth("f", predicted, true, farthest_m=10.0)
    np.testing.assert_allclose(np.exp(found.log_ratios), 1.28, rtol=0.03)
    assert np.median(found.log_ratios) == pytest.approx(math.log(1.28), abs=0.01)
    assert len(np.unique(found.block)) == 16


def test_unknown_and_far_truth_is_left_out() -> None:
    true = np.full(SIZE, 3.0)
    true[:, :40], true[:, 40:80], true[:60, 80:] = 0.0, 30.0, np.nan
    found = of_depth("f", np.full(SIZE, 2.0, np.float32), true, farthest_m=10.0)
    np.testing.assert_allclose(found.true_m, 3.0)
    with pytest.raises(FrameError, match="at least 100 expected"):
        of_depth("f", np.full(SIZE, 2.0, np.float32), np.zeros(SIZE), farthest_m=10.0)


def test_depth_of_another_view_is_refused() -> None:
    with pytest.raises(FrameError, match="another view"):
        of_depth("f", np.ones(SIZE, np.float32), np.ones((120, 120)), farthest_m=10.0)


@pytest.mark.parametrize(
    ("mount", "description"),
    [
        (ScanMount(0.0, 0.0, 0.0), "at the camera"),
        (ScanMount(0.1, 0.05, -0.3), "ahead, to the left and lower"),
        (ScanMount(-0.2, -0.1, -0.2, yaw_deg=30.0), "turned to the left"),
        (ScanMount(0.1, 0.0, -0.3, pitch_deg=20.0), "with a camera that looks down"),
    ],
)
def test_a_scan_of_a_wall_gives_the_factor_wherever_the_scanner_is(mount: ScanMount, description: str) -> None:
    """A wall 3 m ahead of the camera, across its way; the scanner's beams end on it."""
    wall = 3.0
    angles = np.radians(np.arange(-180.0, 180.0, 1.0))
    towards = np.cos(angles + math.radians(mount.yaw_deg))
    with np.errstate(divide="ignore"):
        ranges = np.where(towards > 0.05, (wall - mount.x) / towards, np.nan)
    pitch = math.radians(mount.pitch_deg)
    down = (np.arange(SIZE[0]) - CAMERA.cy) / CAMERA.fy
    depth = wall / (math.cos(pitch) - down * math.sin(pitch))
    predicted = np.broadcast_to((depth / 1.28)[:, None], SIZE).astype(np.float32)
    found = of_scan("f", predicted, ranges, angles, mount, CAMERA, farthest_m=10.0)
    assert found.true_m.size > 30
    np.testing.assert_allclose(np.exp(found.log_ratios), 1.28, rtol=0.01)


def test_a_scan_that_ends_elsewhere_is_refused() -> None:
    angles = np.radians(np.arange(90.0, 270.0))
    with pytest.raises(FrameError, match="0 beams"):
        of_scan("f", np.ones(SIZE, np.float32), np.full(angles.size, 2.0), angles, ScanMount(0, 0, 0), CAMERA, farthest_m=10.0)
