"""Augmentation: whatever is drawn, image, labels, depth, normals and intrinsics go on agreeing."""

from __future__ import annotations

import numpy as np
import pytest
from mtl.datasets.augment import View, draw_view, jitter, whole_view
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Frame
from mtl.geometry import canonical_intrinsics, intrinsics_matrix

from tests.nyu_frames import nyu_frame, view_arrays

pytestmark = pytest.mark.training

HEIGHT, WIDTH = 96, 128
SIZE = (HEIGHT, WIDTH)
CAMERA = (110.0, 112.0, 61.0, 49.5)
NORMAL = np.array([0.3, -0.5, -0.8]) / np.linalg.norm([0.3, -0.5, -0.8])


def slanted_plane() -> Frame:
    """A plane; its image and label say where each pixel came from."""
    depth = -2.0 / (rays(CAMERA, SIZE) @ NORMAL)
    known = (depth > 0) & (depth < 20)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([2 * u, 2 * v, np.full_like(u, 90)], -1).clip(0, 255).astype(np.uint8)
    label = ((u // 16 + v // 16) % 13).astype(np.uint8)
    normals = np.where(known[..., None], NORMAL, 0).astype(np.float32)
    return nyu_frame(image, label, np.where(known, depth, 0).astype(np.float32), normals, CAMERA)


def rays(camera: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    v, u = np.mgrid[: size[0], : size[1]]
    return np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics_matrix(camera)).T


@pytest.mark.parametrize("canonical", [False, True], ids=["own-camera", "canonical"])
@pytest.mark.parametrize("seed", range(12))
def test_a_plane_stays_a_plane_after_mirror_and_zoom(seed: int, canonical: bool) -> None:
    frame = slanted_plane()
    settings = AugmentSettings(scale=(1.0, 1.5), scale_probability=1.0)
    view = draw_view(SIZE, np.random.default_rng(seed), settings, aspect=WIDTH / HEIGHT)
    _, _, depth, normals, camera = view_arrays(frame, view, size=SIZE, canonical=canonical)
    used = canonical_intrinsics(*SIZE) if canonical else camera
    known = (depth > 0) & (np.abs(normals).sum(-1) > 0)
    offsets = ((rays(used, SIZE) * depth[..., None]) * normals).sum(-1)[known]
    assert known.mean() > 0.5
    np.testing.assert_allclose(offsets, np.median(offsets), rtol=0.02)  # nearest sampling is off by half a pixel at most
    assert np.ptp(normals[known], axis=0).max() < 1e-5


def test_mirroring_is_exact() -> None:
    frame = slanted_plane()
    image, label, depth, normals, camera = view_arrays(frame, View((0, 0, HEIGHT, WIDTH), True), size=SIZE, canonical=False)
    np.testing.assert_array_equal(image, frame.image[:, ::-1])
    np.testing.assert_array_equal(label, frame.truths["segmentation"][:, ::-1])
    np.testing.assert_array_equal(depth, frame.truths["depth"][:, ::-1])
    np.testing.assert_array_equal(normals, frame.truths["normals"][:, ::-1] * np.array([-1, 1, 1], np.float32))
    assert camera == (110.0, 112.0, WIDTH - 1 - 61.0, 49.5)


@pytest.mark.parametrize("seed", range(6))
def test_image_and_labels_show_the_same_place(seed: int) -> None:
    frame = slanted_plane()
    view = draw_view(SIZE, np.random.default_rng(seed), AugmentSettings(scale_probability=1.0), aspect=WIDTH / HEIGHT)
    image, label, *_ = view_arrays(frame, view, size=SIZE)
    u, v = image[..., 0] / 2, image[..., 1] / 2
    inside = (np.abs(u % 16 - 8) < 6) & (np.abs(v % 16 - 8) < 6)
    expected = ((u // 16 + v // 16) % 13).astype(np.uint8)
    assert (label == expected)[inside].mean() > 0.995


@pytest.mark.parametrize("phase", [(0, 0), (3, 1), (2, 3)])
def test_targets_at_a_phase_are_the_full_ones_at_those_pixels(phase: tuple[int, int]) -> None:
    frame = slanted_plane()
    view = View((5, 9, 77, 101), True)
    _, label, depth, normals, _ = view_arrays(frame, view, size=SIZE)
    _, few_label, few_depth, few_normals, _ = view_arrays(frame, view, size=SIZE, stride=4, phase=phase)
    at = np.s_[phase[0] :: 4, phase[1] :: 4]
    np.testing.assert_array_equal(few_label, label[at])
    np.testing.assert_array_equal(few_depth, depth[at])
    np.testing.assert_allclose(few_normals, normals[at], atol=1e-6)


def test_a_larger_room_is_reduced_with_its_intrinsics() -> None:
    frame = slanted_plane()
    _, _, depth, normals, camera = view_arrays(frame, whole_view(SIZE, aspect=4 / 3), size=(32, 64 - 64 // 3), canonical=False)
    assert depth.shape == (32, 43)
    known = depth > 0
    offsets = ((rays(camera, depth.shape) * depth[..., None]) * normals).sum(-1)[known]
    np.testing.assert_allclose(offsets, np.median(offsets), rtol=0.05)


@pytest.mark.parametrize(
    ("size", "aspect", "window"), [((90, 160), 4 / 3, (0, 20, 90, 120)), ((100, 100), 2.0, (25, 0, 50, 100))]
)
def test_the_whole_view_keeps_the_aspect(size: tuple[int, int], aspect: float, window: tuple[int, ...]) -> None:
    assert whole_view(size, aspect=aspect).window == window


def test_mode_none_changes_nothing() -> None:
    frame, off, rng = slanted_plane(), AugmentSettings(mode="none"), np.random.default_rng(0)
    assert draw_view(SIZE, rng, off, aspect=WIDTH / HEIGHT) == View((0, 0, HEIGHT, WIDTH))
    np.testing.assert_array_equal(jitter(frame.image, rng, off), frame.image)


def test_jitter_depends_on_its_generator_alone() -> None:
    frame = slanted_plane()
    first, again, other = (jitter(frame.image, np.random.default_rng(seed), AugmentSettings()) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == frame.image.shape
    assert first.dtype == np.uint8
    assert (first != other).any()
