"""LibMTL's augmentation is LibMTL's to the rounding of an image; the consistent one keeps depth and normals together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mtl.datasets.augment import View, draw_view, jitter
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Frame
from mtl.datasets.rooms import render_room
from mtl.datasets.surface import normals_of_depth
from torch.nn import functional as F

from tests.nyu_files import SIZE, box_frame
from tests.nyu_frames import nyu_frame, view_arrays

pytestmark = pytest.mark.training

LIBMTL = AugmentSettings(mode="libmtl")
ASPECT = SIZE[1] / SIZE[0]


def noisy_frame() -> Frame:
    """Nothing smooth: every wrong pixel shows."""
    rng, frame = np.random.default_rng(5), box_frame(3)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    normals = rng.normal(size=(*SIZE, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    label, depth = rng.integers(0, 13, SIZE).astype(np.uint8), rng.uniform(0, 9, SIZE).astype(np.float32)
    return nyu_frame(image, label, depth, normals, frame.intrinsics)


def reference(frame: Frame, view: View) -> tuple[np.ndarray, ...]:
    """The same view by torch: crop, `interpolate` to the size of the frame, divide the depth, then mirror."""
    top, left, high, wide = view.window
    stacks = {
        "image": torch.from_numpy(frame.image).permute(2, 0, 1).float() / 255,
        "label": torch.from_numpy(frame.truths["segmentation"])[None].float(),
        "depth": torch.from_numpy(frame.truths["depth"])[None],
        "normal": torch.from_numpy(frame.truths["normals"]).permute(2, 0, 1),
    }
    made = {}
    for name, stack in stacks.items():
        crop = stack[None, :, top : top + high, left : left + wide]
        if name in ("image", "normal"):
            made[name] = F.interpolate(crop, size=SIZE, mode="bilinear", align_corners=True)[0]
        else:
            made[name] = F.interpolate(crop, size=SIZE, mode="nearest")[0]
    made["depth"] = made["depth"] / view.libmtl_zoom
    if view.mirrored:
        made = {name: stack.flip(2) for name, stack in made.items()}
        made["normal"][0] *= -1
    image, label, depth, normal = (made[name].permute(1, 2, 0).numpy() for name in ("image", "label", "depth", "normal"))
    return image, label[..., 0], depth[..., 0], normal


def angles(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Degrees between two fields of vectors."""
    cosine = (first * second).sum(-1) / np.maximum(np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1), 1e-9)
    return np.degrees(np.arccos(cosine[where].clip(-1, 1)))


@pytest.mark.parametrize("seed", range(16))
def test_libmtl_views_equal_the_same_operations_in_torch(seed: int) -> None:
    frame = noisy_frame()
    view = draw_view(SIZE, np.random.default_rng(seed), LIBMTL, aspect=ASPECT)
    image, label, depth, normals, _ = view_arrays(frame, view, size=SIZE, canonical=False)
    expected_image, expected_label, expected_depth, expected_normals = reference(frame, view)
    assert np.abs(image / 255 - expected_image).max() <= 0.5 / 255 + 1e-5
    np.testing.assert_array_equal(label, expected_label)
    np.testing.assert_allclose(depth, expected_depth, rtol=1e-6)
    np.testing.assert_allclose(normals, expected_normals, atol=2e-5)


def test_the_comparison_with_torch_can_fail() -> None:
    frame = noisy_frame()
    here, beside = View((4, 6, 32, 42), False, 1.5), View((4, 7, 32, 42), False, 1.5)
    image, *_ = view_arrays(frame, here, size=SIZE, canonical=False)
    assert np.abs(image / 255 - reference(frame, beside)[0]).max() > 0.1
    consistent, *_ = view_arrays(frame, View(here.window), size=SIZE, canonical=False)
    assert np.abs(consistent / 255 - reference(frame, here)[0]).max() > 0.1  # corners are not aligned there


def test_libmtl_draws_its_three_zooms_and_mirrors_half_of_them() -> None:
    rng = np.random.default_rng(0)
    views = [draw_view((288, 384), rng, LIBMTL, aspect=4 / 3) for _ in range(600)]
    for zoom, size in {1.0: (288, 384), 1.2: (240, 320), 1.5: (192, 256)}.items():
        those = [view for view in views if view.libmtl_zoom == zoom]
        assert 150 < len(those) < 250
        assert {view.window[2:] for view in those} == {size}
        assert max(view.window[0] for view in those) <= 288 - size[0]
    assert 240 < sum(view.mirrored for view in views) < 360
    assert {view.libmtl_zoom for view in views} == {1.0, 1.2, 1.5}


def test_libmtl_leaves_the_photometry_alone() -> None:
    image = noisy_frame().image
    np.testing.assert_array_equal(jitter(image, np.random.default_rng(0), LIBMTL), image)
    assert (jitter(image, np.random.default_rng(0), AugmentSettings()) != image).any()


@pytest.mark.parametrize("phase", [(0, 0), (3, 1)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_libmtl_targets_at_a_phase_are_the_full_ones_at_those_pixels(phase: tuple[int, int], mirrored: bool) -> None:
    frame, view = noisy_frame(), View((9, 3, 32, 42), mirrored, 1.5)
    full = view_arrays(frame, view, size=SIZE, canonical=False)
    few = view_arrays(frame, view, size=SIZE, stride=4, phase=phase, canonical=False)
    at = np.s_[phase[0] :: 4, phase[1] :: 4]
    np.testing.assert_array_equal(few[0], full[0])
    for some, everything in zip(few[1:4], full[1:4], strict=True):
        np.testing.assert_allclose(some, everything[at], atol=1e-6)


@pytest.fixture(scope="module")
def rooms() -> list[Frame]:
    made = [render_room(seed, 96, 128) for seed in range(4)]
    return [nyu_frame(room.image, room.label, room.depth_m, room.normals, room.intrinsics) for room in made]


def zoomed(
    frame: Frame, seed: int, zoom: float, *, libmtl: bool, mirrored: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Depth, normals, those of the depth for the camera that the view claims, and that camera's focal length."""
    size, rng = frame.size, np.random.default_rng(seed)
    high, wide = int(size[0] / zoom), int(size[1] / zoom)
    window = (int(rng.integers(size[0] - high + 1)), int(rng.integers(size[1] - wide + 1)), high, wide)
    view = View(window, mirrored, zoom if libmtl else 0.0)
    _, _, depth, normals, camera = view_arrays(frame, view, size=size, canonical=False)
    return depth, normals, normals_of_depth(depth, camera), camera[0]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_consistent_mode_keeps_normals_those_of_the_depth_and_libmtl_is_ten_degrees_off(
    rooms: list[Frame], mirrored: bool
) -> None:
    found: dict[str, list[float]] = {"consistent": [], "libmtl": []}
    for seed, room in enumerate(rooms):
        depth, normals, of_depth, focal = zoomed(room, seed, 1.5, libmtl=False, mirrored=mirrored)
        smooth = (of_depth != 0).any(-1) & (angles(normals, of_depth, np.ones(depth.shape, bool)).reshape(depth.shape) < 3)
        assert smooth.mean() > 0.15
        found["consistent"] += angles(normals, of_depth, smooth).tolist()
        theirs_depth, theirs, theirs_of_depth, theirs_focal = zoomed(room, seed, 1.5, libmtl=True, mirrored=mirrored)
        assert theirs_focal == focal  # both claim the camera that did not zoom
        assert np.median(np.abs(theirs_depth - depth)[smooth]) < 0.02  # and agree about depth
        found["libmtl"] += angles(theirs, theirs_of_depth, smooth).tolist()
    assert np.mean(found["consistent"]) < 1.5
    assert 8 < np.mean(found["libmtl"]) < 13


def test_the_formula_of_the_consistent_mode() -> None:
    frame = box_frame(1)
    camera = (frame.intrinsics[0], frame.intrinsics[0], (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2)
    frame = nyu_frame(frame.image, frame.truths["segmentation"], frame.truths["depth"], frame.truths["normals"], camera)
    view = View((8, 11, 32, 43))  # centred to half a pixel, so the principal point hardly moves
    zoom = SIZE[0] / 32
    _, _, depth, normals, _ = view_arrays(frame, view, size=SIZE, canonical=False)
    _, _, unscaled, unbent, _ = view_arrays(frame, View(view.window, False, 1.0), size=SIZE, canonical=False)
    expected = unbent * np.array([1, 1, zoom])
    inside = (np.abs(unscaled / zoom / np.maximum(depth, 1e-6) - 1) < 0.05) & (np.linalg.norm(unbent, axis=-1) > 0.999)
    assert inside.mean() > 0.7
    assert np.median(angles(normals, expected, inside)) < 1.0
