"""The angle between predicted normals and those of predicted depth: exact on planes, sane at edges, honest where unknown."""

from __future__ import annotations

import numpy as np
import pytest

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.image.frames import Intrinsics
from edge_mtl.image.geometry import normals_of_depth
from edge_mtl.tasks.consistency import depth_normal_angle, fitted_normals
from edge_mtl.tasks.normals import angles_deg
from tests.bundles import make_image

CAMERA = Intrinsics(353.0, 350.0, 190.0, 145.0)
SIZE = (288, 384)


def rays(camera: Intrinsics = CAMERA, size: tuple[int, int] = SIZE) -> np.ndarray:
    v, u = np.mgrid[: size[0], : size[1]]
    return np.dstack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(size)])


def unit(*vector: float) -> np.ndarray:
    return np.array(vector) / np.linalg.norm(vector)


def plane(normal: np.ndarray, distance: float = 2.0, camera: Intrinsics = CAMERA, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Depth of the plane normal . X = -distance."""
    return (-distance / (rays(camera, size) @ normal)).astype(np.float32)


def everywhere(normal: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.broadcast_to(normal.astype(np.float32), (*size, 3))


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.5, 0.1, -1), (-0.2, 0.6, -1)])
@pytest.mark.parametrize("size", [SIZE, (64, 96), (480, 640), (7, 9), (301, 203)])
def test_a_plane_agrees_with_its_normal_up_to_the_border(normal: tuple[float, float, float], size: tuple[int, int]) -> None:
    camera = Intrinsics(0.9 * size[1], 0.9 * size[1], (size[1] - 1) / 2, (size[0] - 1) / 2)
    depth = plane(unit(*normal), camera=camera, size=size)
    angle = depth_normal_angle(depth, everywhere(unit(*normal), size), camera)
    assert angle.dtype == np.float32
    assert angle.shape == size
    assert angle.max() < 0.3


def test_a_tilt_of_the_normals_is_read_off_in_degrees() -> None:
    depth = plane(unit(0.2, -0.3, -1))
    tilted = unit(0.2, 0.1, -1)
    expected = float(angles_deg(tilted, unit(0.2, -0.3, -1)))
    assert depth_normal_angle(depth, everywhere(tilted), CAMERA) == pytest.approx(expected, abs=0.2)


def test_the_camera_matters_and_the_scale_of_depth_does_not() -> None:
    normal = unit(0.6, 0.0, -1)
    depth = plane(normal)
    wrong = Intrinsics(2 * CAMERA.fx, 2 * CAMERA.fy, CAMERA.cx, CAMERA.cy)
    assert depth_normal_angle(depth, everywhere(normal), wrong).mean() > 5
    assert depth_normal_angle(3 * depth, everywhere(normal), CAMERA).max() < 0.3


def two_walls() -> tuple[np.ndarray, np.ndarray]:
    """A box in front of a wall, tilted differently: depth jumps at column 192."""
    near, far = unit(0.3, 0.0, -1), unit(-0.2, 0.2, -1)
    left = np.arange(SIZE[1]) < 192
    depth = np.where(left, plane(near, 1.0), plane(far, 3.0)).astype(np.float32)
    return depth, np.where(left[None, :, None], near, far).astype(np.float32) * np.ones((*SIZE, 1), np.float32)


def test_a_depth_edge_is_no_disagreement() -> None:
    depth, normals = two_walls()
    angle = depth_normal_angle(depth, normals, CAMERA)
    assert angle.max() < 1.0
    with np.errstate(invalid="ignore"):
        central = angles_deg(normals, normals_of_depth(depth, CAMERA))
    assert central.max() > 30, "the control: plain differences see a steep wall there"


def test_noise_in_the_depth_is_averaged_over_a_window() -> None:
    random = np.random.default_rng(0)
    normal = unit(0.2, -0.1, -1)
    depth = plane(normal) * (1 + random.normal(0, 0.01, SIZE)).astype(np.float32)
    assert depth_normal_angle(depth, everywhere(normal), CAMERA).mean() < 15
    assert angles_deg(everywhere(normal), normals_of_depth(depth, CAMERA)).mean() > 45


def test_unknown_stays_unknown_and_does_not_spread() -> None:
    normal = unit(0.1, 0.2, -1)
    depth, normals = plane(normal), everywhere(normal).copy()
    depth[100:140, 100:200] = np.nan
    depth[:30] = 0.0
    normals[200:210, 50:60] = np.nan
    angle = depth_normal_angle(depth, normals, CAMERA)
    unknown = np.zeros(SIZE, bool)
    unknown[100:140, 100:200] = unknown[:30] = unknown[200:210, 50:60] = True
    assert np.isnan(angle[unknown]).all()
    assert np.isfinite(angle[~unknown]).mean() > 0.99
    assert np.nanmax(angle) < 1.0


@pytest.mark.parametrize(
    "depth", [np.full(SIZE, np.nan, np.float32), np.zeros(SIZE, np.float32), np.full((2, 2), 1.0, np.float32)]
)
def test_where_nothing_is_known_nothing_is_said(depth: np.ndarray) -> None:
    normals = everywhere(unit(0, 0, -1), depth.shape)
    assert np.isnan(depth_normal_angle(depth, normals, CAMERA)).all()
    assert np.isnan(fitted_normals(depth, CAMERA)).all()


def test_a_prediction_has_it_in_the_cameras_own_geometry(tiny_bundle: Bundle) -> None:
    with Engine(tiny_bundle, precision="fp32", backend="onnxruntime", threads=1, self_test="off") as engine:
        prediction = engine.predict(make_image(3, height=90, width=120), intrinsics=(110.0, 110.0, 59.5, 44.5))
    assert prediction.consistency is not None
    assert prediction.consistency.shape == (90, 120)
    assert prediction.consistency is prediction.consistency, "made once"
    again = depth_normal_angle(prediction.depth, prediction.normals, prediction.intrinsics)
    np.testing.assert_array_equal(prediction.consistency, again)
