"""Corruptions of images: nothing at severity 0, more damage at every severity, the same for the same frame, fog by its law."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pytest
from mtl.datasets.corruptions import AIRLIGHT, CORRUPTIONS, SEVERITIES, CorruptedFrames, corrupted, fog
from mtl.datasets.frame import Frame
from mtl.datasets.streets import StreetSample, render_street

from edge_mtl.tasks import NYU_TASKS, Specs

HEIGHT, WIDTH = 96, 160
WHITE = 255


@pytest.fixture(scope="module")
def street() -> StreetSample:
    return render_street(3, HEIGHT, WIDTH)


def spoilt(street: StreetSample, kind: str, severity: int, seed: int = 0) -> np.ndarray:
    return corrupted(street.image, kind, severity, np.random.default_rng(seed), depth_m=street.depth_m)


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    error = np.mean((image.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(WHITE**2 / error))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severity_0_is_the_image_and_every_higher_one_is_further_from_it(street, kind):
    assert np.array_equal(spoilt(street, kind, 0), street.image)
    quality = [psnr(spoilt(street, kind, severity), street.image) for severity in SEVERITIES[1:]]
    assert all(better > worse + 0.3 for better, worse in pairwise(quality)), quality
    assert quality[0] < 45
    assert quality[-1] < 28


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_is_a_function_of_its_arguments_and_leaves_them_alone(street, kind):
    before = street.image.copy()
    first, second = spoilt(street, kind, 4), spoilt(street, kind, 4)
    assert np.array_equal(first, second)
    assert np.array_equal(street.image, before)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == (before.shape, np.uint8, True)


@pytest.mark.parametrize("kind", ["gaussian noise", "shot noise", "motion blur"])
def test_what_is_drawn_differs_between_seeds(street, kind):
    assert not np.array_equal(spoilt(street, kind, 3, seed=0), spoilt(street, kind, 3, seed=1))


def test_fog_of_no_density_changes_nothing(street):
    assert np.array_equal(fog(street.image, street.depth_m, 0.0), street.image)
    assert np.array_equal(fog(street.image, street.depth_m, 1e-9)[street.depth_m > 0], street.image[street.depth_m > 0])


def test_what_is_infinitely_far_in_fog_has_the_colour_of_the_air():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    air = np.rint(np.array(AIRLIGHT) * WHITE)
    assert np.abs(fog(image, np.full((8, 8), 1e6, np.float32), 0.05) - air).max() == 0
    assert np.abs(fog(image, np.zeros((8, 8), np.float32), 0.05) - air).max() == 0  # no depth: the sky


def test_fog_follows_its_law_at_a_known_distance():
    image, depth = np.full((4, 4, 3), 51, np.uint8), np.full((4, 4), 20.0, np.float32)
    left = np.exp(-0.05 * 20.0)
    expected = np.rint(WHITE * (0.2 * left + np.array(AIRLIGHT) * (1 - left)))
    assert np.array_equal(fog(image, depth, 0.05), np.broadcast_to(expected, image.shape))


def test_fog_of_a_severity_is_as_dense_in_a_small_world_as_in_a_large_one(street):
    near = corrupted(street.image, "fog", 3, np.random.default_rng(0), depth_m=street.depth_m / 8, far_m=10.0)
    assert np.array_equal(near, spoilt(street, "fog", 3))


@pytest.mark.parametrize("kind", ["defocus blur", "motion blur"])
def test_blur_keeps_an_even_image_and_the_mean_of_any(street, kind):
    even = np.full((HEIGHT, WIDTH, 3), 77, np.uint8)
    assert np.array_equal(corrupted(even, kind, 5, np.random.default_rng(0)), even)
    assert abs(float(spoilt(street, kind, 5).mean()) - float(street.image.mean())) < 4


def test_noise_has_the_deviation_that_it_says():
    grey = np.full((200, 200, 3), 128, np.uint8)
    found = corrupted(grey, "gaussian noise", 2, np.random.default_rng(1)).astype(np.float64) / WHITE
    assert found.std() == pytest.approx(0.06, rel=0.03)
    shot = corrupted(grey, "shot noise", 2, np.random.default_rng(1)).astype(np.float64) / WHITE
    assert shot.std() == pytest.approx(np.sqrt(128 / WHITE / 70), rel=0.03)


def test_what_cannot_be_done_is_said():
    image, rng = np.zeros((4, 4, 3), np.uint8), np.random.default_rng(0)
    with pytest.raises(ValueError, match="corruptions are gaussian noise"):
        corrupted(image, "snow", 1, rng)
    with pytest.raises(ValueError, match="severities are 0 to 5, not 6"):
        corrupted(image, "jpeg", 6, rng)
    with pytest.raises(ValueError, match="needs the true depth"):
        corrupted(image, "fog", 1, rng)


@dataclass
class Frames:
    """Streets without a disk."""

    every: list[Frame]
    tasks: Specs = field(default_factory=lambda: MappingProxyType({"depth": NYU_TASKS["depth"]}))

    def __len__(self) -> int:
        return len(self.every)

    def __getitem__(self, index: int) -> Frame:
        return self.every[index]


def test_frames_are_spoilt_by_their_number_alone_and_keep_their_truths(street):
    frames = Frames([Frame(street.image, {"depth": street.depth_m}, street.intrinsics)] * 2)
    noisy = CorruptedFrames(frames, "gaussian noise", 3)
    assert len(noisy) == 2
    assert noisy.tasks is frames.tasks
    assert np.array_equal(noisy[1].image, noisy[1].image)
    assert not np.array_equal(noisy[0].image, noisy[1].image)
    assert noisy[0].truths["depth"] is street.depth_m
    assert noisy[0].intrinsics == street.intrinsics
    assert np.array_equal(CorruptedFrames(frames, "fog", 2)[0].image, spoilt(street, "fog", 2))
