"""Intrinsics and the canonical camera: exact statements about planes and pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mtl.geometry import (
    Intrinsics,
    canonical_intrinsics,
    crop_and_resize_intrinsics,
    depth_for_camera,
    intrinsics_matrix,
    mirror_intrinsics,
    normals_for_camera,
)

pytestmark = pytest.mark.training

SIZE = (24, 32)
focals = st.floats(10, 80)


def to_canonical(
    depth: np.ndarray, normals: np.ndarray, camera: Intrinsics, canonical: Intrinsics
) -> tuple[np.ndarray, np.ndarray]:
    cameras = {"seen_by": camera, "wanted": canonical}
    return depth_for_camera(depth, **cameras), normals_for_camera(normals, **cameras)


def plane(normal: tuple[float, float, float], offset_m: float, intrinsics: tuple[float, float, float, float]) -> np.ndarray:
    """(H, W) depth of the plane normal . P = -offset seen through a camera; 0 where it is not in front."""
    rays = directions(intrinsics)
    along = rays @ np.array(normal)
    with np.errstate(divide="ignore"):
        depth = -offset_m / along
    return np.where((along < -0.05) & (depth < 50), depth, 0).astype(np.float32)


def directions(intrinsics: tuple[float, float, float, float]) -> np.ndarray:
    """(H, W, 3) points at depth 1."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics_matrix(intrinsics)).T


@given(fx=focals, fy=focals, cx=st.floats(5, 27), cy=st.floats(3, 20), tilt=st.floats(-0.5, 0.5))
@settings(max_examples=50, deadline=None)
def test_canonical_space_and_back_is_the_identity(fx: float, fy: float, cx: float, cy: float, tilt: float) -> None:
    camera, canonical = (fx, fy, cx, cy), canonical_intrinsics(*SIZE)
    normal = np.array([tilt, 0.3, -1.0]) / np.linalg.norm([tilt, 0.3, -1.0])
    depth = np.full(SIZE, 2.5, np.float32)
    normals = np.broadcast_to(normal, (*SIZE, 3)).astype(np.float32)
    there = to_canonical(depth, normals, camera, canonical)
    back = to_canonical(*there, canonical, camera)
    np.testing.assert_allclose(back[0], depth, rtol=1e-5)
    np.testing.assert_allclose(back[1], normals, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(there[1], axis=-1), 1, atol=1e-5)


@given(fx=focals, fy=focals, cx=st.floats(5, 27), cy=st.floats(3, 20), x=st.floats(-0.6, 0.6), y=st.floats(-0.6, 0.6))
@settings(max_examples=50, deadline=None)
def test_a_plane_is_still_a_plane_for_the_canonical_camera(
    fx: float, fy: float, cx: float, cy: float, x: float, y: float
) -> None:
    camera, canonical = (fx, fy, cx, cy), canonical_intrinsics(*SIZE)
    normal = np.array([x, y, -1.0]) / np.linalg.norm([x, y, -1.0])
    depth = plane(tuple(normal), 2.0, camera)
    known = depth > 0
    depth_c, normals_c = to_canonical(depth, np.where(known[..., None], normal, 0).astype(np.float32), camera, canonical)
    points = directions(canonical) * depth_c[..., None]
    offsets = (points * normals_c).sum(-1)[known]
    np.testing.assert_allclose(offsets, offsets.mean(), rtol=2e-3)


def test_unknown_pixels_stay_unknown() -> None:
    depth, normals = to_canonical(
        np.zeros(SIZE, np.float32), np.zeros((*SIZE, 3), np.float32), (20, 21, 15, 11), canonical_intrinsics(*SIZE)
    )
    assert not depth.any()
    assert not normals.any()


def test_the_canonical_camera_itself_changes_nothing() -> None:
    camera = canonical_intrinsics(288, 384)
    assert camera == (353.0, 353.0, 191.5, 143.5)
    normals = np.array([[[0.6, 0.0, -0.8]]], np.float32)
    depth, same = to_canonical(np.array([[3.0]], np.float32), normals, camera, camera)
    assert depth[0, 0] == 3.0
    np.testing.assert_allclose(same, normals, atol=1e-7)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (192, 256)])
def test_the_canonical_camera_scales_like_a_resized_image(height: int, width: int) -> None:
    resized = crop_and_resize_intrinsics(canonical_intrinsics(288, 384), window=(0, 0, 288, 384), size=(height, width))
    np.testing.assert_allclose(resized, canonical_intrinsics(height, width))


def test_a_crop_and_its_enlargement_move_pixels_as_intrinsics_say() -> None:
    camera = (30.0, 31.0, 15.2, 11.7)
    window, size = (4.0, 8.0, 12.0, 16.0), (24, 32)
    fx, fy, cx, cy = crop_and_resize_intrinsics(camera, window=window, size=size)
    point = np.array([0.1, -0.05, 1.0])
    u, v = camera[0] * point[0] + camera[2], camera[1] * point[1] + camera[3]
    expected_u, expected_v = (u + 0.5 - window[1]) * 2 - 0.5, (v + 0.5 - window[0]) * 2 - 0.5
    np.testing.assert_allclose([fx * point[0] + cx, fy * point[1] + cy], [expected_u, expected_v])


def test_mirroring_twice_is_the_identity() -> None:
    camera = (30.0, 31.0, 15.2, 11.7)
    assert mirror_intrinsics(mirror_intrinsics(camera, width=32), width=32) == pytest.approx(camera)
