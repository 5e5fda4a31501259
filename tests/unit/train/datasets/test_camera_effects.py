"""Noise, compression, grey and covered parts: what each does, and that nothing is drawn for those that are off."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.camera_effects import camera_effects, has_effects

pytestmark = pytest.mark.training

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8), (0, 0), 3.0)


def changed(seed: int = 0, image: np.ndarray = IMAGE, **settings: float) -> np.ndarray:
    return camera_effects(image, np.random.default_rng(seed), replace(AugmentSettings(), **settings))


def test_nothing_is_on_by_default() -> None:
    assert not has_effects(AugmentSettings())
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(camera_effects(IMAGE, rng, AugmentSettings()), IMAGE)
    assert rng.random() == np.random.default_rng(3).random()  # no number was drawn


@pytest.mark.parametrize("name", ["grey", "shot_noise", "jpeg", "erase"])
def test_an_effect_depends_on_its_generator_alone(name: str) -> None:
    assert has_effects(replace(AugmentSettings(), **{name: 1.0}))
    found = [changed(seed, **{name: 1.0}) for seed in (0, 0, 1, 2, 3)]
    np.testing.assert_array_equal(found[0], found[1])
    assert any((one != IMAGE).any() for one in found)
    assert all(one.shape == IMAGE.shape and one.dtype == np.uint8 for one in found)


def test_grey_has_equal_channels_of_the_luma() -> None:
    grey = changed(grey=1.0)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    np.testing.assert_allclose(grey[..., 1], IMAGE @ np.array([0.299, 0.587, 0.114]), atol=1)


def test_shot_noise_grows_with_the_root_of_the_brightness() -> None:
    dark, bright = (np.full((200, 200, 3), value, np.uint8) for value in (40, 160))
    seed = next(seed for seed in range(9) if (changed(seed, dark, shot_noise=0.1) != dark).any())
    spread = [float(changed(seed, image, shot_noise=0.1).std()) for image in (dark, bright)]
    assert spread[1] / spread[0] == pytest.approx(2.0, rel=0.05)  # sqrt(160 / 40)


def test_a_lower_quality_is_farther_from_the_image() -> None:
    away = [
        np.abs(
            camera_effects(IMAGE, np.random.default_rng(0), AugmentSettings(jpeg=1.0, jpeg_quality=(q, q))) - IMAGE.astype(int)
        )
        for q in (10, 90)
    ]
    assert 0 < away[1].mean() < away[0].mean() / 2
    assert away[1].mean() < 4  # channels were not exchanged on the way


def test_a_rectangle_of_at_most_a_fifth_is_covered() -> None:
    plain = np.zeros((96, 128, 3), np.uint8)
    for seed in range(8):
        rows, columns = np.nonzero(changed(seed, plain, erase=1.0).any(axis=-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == pytest.approx(height * width, rel=0.01)  # filled
        assert 0.01 < height * width / (96 * 128) < 0.22
