"""Lenses against OpenCV's own functions of points, and a rendered scene through a lens and back."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mtl.errors import FrameError
from edge_mtl.image.distortion import Lens, LensModel, rectification
from edge_mtl.image.frames import Intrinsics

SIZE = (96, 128)
CAMERA = Intrinsics(100.0, 104.0, 61.0, 49.0)
BARREL: tuple[float, ...] = (-0.28, 0.07, 0.002, -0.001, 0.0)
PINCUSHION = (0.25, 0.05, 0.0, 0.0)
RATIONAL = (0.4, -0.1, 0.001, -0.0005, 0.02, 0.7, -0.05, 0.03)
FISHEYE = (0.03, -0.012, 0.004, -0.001)
LENSES: list[tuple[LensModel, tuple[float, ...]]] = [
    ("radius", BARREL),
    ("radius", PINCUSHION),
    ("radius", RATIONAL),
    ("radius", (*RATIONAL, 0.001, 0.0, -0.002, 0.0)),
    ("angle", FISHEYE),
    ("angle", (0.0, 0.0, 0.0, 0.0)),
]
lenses = pytest.mark.parametrize(("model", "coefficients"), LENSES)


def border(size: tuple[int, int] = SIZE) -> Any:
    """(N, 2) pixels along the border of an image and through its middle."""
    height, width = size
    columns, rows = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9))
    return np.stack([columns.ravel(), rows.ravel()], axis=1)


def points_of_opencv(model: str, rays: Any, coefficients: tuple[float, ...]) -> Any:
    """(N, 2) pixels that OpenCV's projection of points at z = 1 gives."""
    ahead = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)[:, None]
    project = cv2.fisheye.projectPoints if model == "angle" else cv2.projectPoints
    arguments: list[Any] = [ahead, np.zeros(3), np.zeros(3), CAMERA.matrix(), np.array(coefficients)]
    return project(*arguments)[0].reshape(-1, 2)


@lenses
def test_rays_and_pixels_are_those_of_opencv(model: LensModel, coefficients: tuple[float, ...]) -> None:
    lens, pixels = Lens(CAMERA, model, coefficients), border()
    rays = lens.rays(pixels)
    assert np.allclose(points_of_opencv(model, rays, coefficients), pixels, atol=1e-4)
    assert np.allclose(lens.project(rays), pixels, atol=1e-4)


def test_rays_of_a_fisheye_are_those_that_opencv_finds() -> None:
    found = Lens(CAMERA, "angle", FISHEYE).rays(border())
    arguments: list[Any] = [border()[:, None], CAMERA.matrix(), np.array(FISHEYE)]
    assert np.allclose(found, cv2.fisheye.undistortPoints(*arguments)[:, 0], atol=1e-8)


@lenses
def test_the_displacement_is_of_the_worst_corner(model: LensModel, coefficients: tuple[float, ...]) -> None:
    height, width = SIZE
    lens = Lens(CAMERA, model, coefficients)
    found = lens.displacement_px(SIZE)
    columns, rows = np.meshgrid(np.linspace(-2 * width, 3 * width, 1201), np.linspace(-2 * height, 3 * height, 1201))
    straight = np.stack([columns.ravel(), rows.ravel()], axis=1)
    seen = points_of_opencv(model, (straight - (CAMERA.cx, CAMERA.cy)) / (CAMERA.fx, CAMERA.fy), coefficients)
    worst = 0.0
    for corner in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
        misses = np.linalg.norm(seen - corner, axis=1) + 0.01 * np.linalg.norm(straight - corner, axis=1)  # not the far branch
        worst = max(worst, float(np.linalg.norm(straight[misses.argmin()] - corner)))
    assert found == pytest.approx(worst, abs=1.5)


def test_a_lens_without_coefficients_displaces_nothing_and_a_fisheye_does() -> None:
    assert Lens(CAMERA, "radius", (0.0,) * 5).displacement_px(SIZE) == pytest.approx(0.0, abs=1e-6)
    radius_px = 100.0
    fisheye = Lens(Intrinsics(100.0, 100.0, 0.0, 0.0), "angle", (0.0,) * 4)
    corner = radius_px * math.tan(1.0) - radius_px  # the angle is the radius over f: 1 rad at 100 px
    assert fisheye.displacement_px((1, 101)) == pytest.approx(corner, abs=1e-3)


@pytest.mark.parametrize(
    ("camera", "model", "coefficients"),
    [
        (Intrinsics(30.0, 30.0, 63.5, 47.5), "angle", (0.0,) * 4),  # a corner beyond 90 degrees
        (CAMERA, "radius", (-0.9, 0.0, 0.0, 0.0)),  # a polynomial that turns back within the image
    ],
)
def test_a_corner_that_no_pinhole_camera_shows_is_infinitely_far(
    camera: Intrinsics, model: LensModel, coefficients: tuple[float, ...]
) -> None:
    assert Lens(camera, model, coefficients).displacement_px(SIZE) == math.inf


@pytest.mark.parametrize(
    ("model", "coefficients"), [("radius", (0.1,)), ("angle", BARREL), ("radius", (math.nan,) * 5), ("angle", (math.inf,) * 4)]
)
def test_coefficients_that_the_model_does_not_have_are_refused(model: LensModel, coefficients: tuple[float, ...]) -> None:
    with pytest.raises(FrameError, match="coefficients of distortion were expected"):
        Lens(CAMERA, model, coefficients)


def scene(rays: Any) -> Any:
    """(..., 3) uint8 colours of the directions (..., 2): smooth, and different everywhere."""
    x, y = rays[..., 0], rays[..., 1]
    waves = np.stack([np.sin(5 * x + 2 * y), np.sin(4 * y - x), np.cos(3 * x * y + 2 * x)], axis=-1)
    return np.rint(127.5 + 100.0 * waves).astype(np.uint8)


def pixels_of(size: tuple[int, int]) -> Any:
    """(H, W, 2) columns and rows."""
    return np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1).astype(np.float64)


def rendered(lens: Lens, size: tuple[int, int]) -> Any:
    """(H, W, 3) uint8: the scene as the lens shows it; black where it shows nothing."""
    rays = lens.rays(pixels_of(size).reshape(-1, 2)).reshape(*size, 2)
    known = np.isfinite(rays).all(axis=-1, keepdims=True)
    return np.where(known, scene(np.nan_to_num(rays)), 0).astype(np.uint8)


def straight(camera: Intrinsics, size: tuple[int, int]) -> Any:
    """(H, W, 3) uint8: the scene as a pinhole camera shows it."""
    return scene((pixels_of(size) - (camera.cx, camera.cy)) / (camera.fx, camera.fy))


@lenses
def test_a_scene_through_a_lens_and_back_is_the_scene(model: LensModel, coefficients: tuple[float, ...]) -> None:
    lens = Lens(CAMERA, model, coefficients)
    frame = rendered(lens, SIZE)
    assert np.abs(frame.astype(int) - straight(CAMERA, SIZE)).max() > 20
    undone = rectification(lens, SIZE, wanted=CAMERA)
    differences = np.abs(undone(frame).astype(int) - straight(undone.camera, SIZE))
    assert differences.max() <= 6
    assert np.array_equal(undone(frame[..., ::-1]), undone(frame)[..., ::-1])  # colours in any order


def test_the_result_is_zoomed_in_until_all_of_it_was_seen() -> None:
    lens = Lens(CAMERA, "radius", PINCUSHION)
    wide = Intrinsics(CAMERA.fx / 2, CAMERA.fy / 2, CAMERA.cx, CAMERA.cy)
    undone = rectification(lens, SIZE, wanted=wide)
    assert undone.zoom > 2.0
    assert undone.camera.as_tuple() == pytest.approx((wide.fx * undone.zoom, wide.fy * undone.zoom, wide.cx, wide.cy))
    rays = (border() - (wide.cx, wide.cy)) / (undone.camera.fx, undone.camera.fy)
    seen = points_of_opencv("radius", rays, PINCUSHION)
    assert (seen > -0.5).all()
    assert (seen < (SIZE[1] - 0.5, SIZE[0] - 0.5)).all()
    assert min(seen.min(), (np.array([SIZE[1] - 1, SIZE[0] - 1]) - seen).min()) < 0.5, "and not more than that"
    assert rectification(lens, SIZE, wanted=CAMERA).zoom < undone.zoom


def test_a_polynomial_that_turns_back_shows_nothing_twice() -> None:
    lens = Lens(CAMERA, "radius", (-0.5, 0.0, 0.0, 0.0))
    undone = rectification(lens, SIZE, wanted=Intrinsics(40.0, 40.0, CAMERA.cx, CAMERA.cy))
    radius = np.linalg.norm((border() - (CAMERA.cx, CAMERA.cy)) / (undone.camera.fx, undone.camera.fy), axis=1).max()
    assert radius < math.sqrt(1 / (3 * 0.5)), "beyond the turning point of r - 0.5 r^3 the image would be mirrored"


def test_the_result_may_look_another_way() -> None:
    lens, angle = Lens(CAMERA, "radius", BARREL), 0.02
    turned = cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0]
    undone = rectification(lens, SIZE, wanted=CAMERA, rotation=turned)
    ahead = pixels_of(SIZE).reshape(-1, 2)
    rays = (ahead - (CAMERA.cx, CAMERA.cy)) / (undone.camera.fx, undone.camera.fy)
    rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1) @ turned  # into the camera of the lens
    expected = scene(rays[:, :2] / rays[:, 2:]).reshape(*SIZE, 3)
    assert np.abs(undone(rendered(lens, SIZE)).astype(int) - expected).max() <= 6


def test_a_lens_that_no_pinhole_camera_comes_near_is_refused() -> None:
    with pytest.raises(FrameError, match="no part of the image"):
        rectification(Lens(CAMERA, "radius", BARREL), SIZE, wanted=Intrinsics(100.0, 100.0, -900.0, 49.0))


def test_a_frame_of_another_size_is_refused() -> None:
    undone = rectification(Lens(CAMERA, "radius", BARREL), SIZE, wanted=CAMERA)
    with pytest.raises(FrameError, match=r"\(96, 128\) was expected"):
        undone(np.zeros((48, 64, 3), np.uint8))
