"""What real cameras and files do to an image and rendered ones lack: noise of light, compression, no colour, a covered part.

Every random number comes from a generator of its own, so that turning one on leaves the other variations as they were.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from mtl.datasets.augment_settings import AugmentSettings

__all__ = ["camera_effects", "has_effects"]

Array = np.ndarray

_ERASED = (0.02, 0.2)
"""Share of the image that is covered."""
_ASPECT = (0.3, 1 / 0.3)
"""Height by width of what covers it, as in Zhong et al. 2017."""
_GREY = np.full((3, 3), 1.0, np.float32) * np.array([0.299, 0.587, 0.114], np.float32)
"""Every channel becomes the luma of ITU-R BT.601."""


def has_effects(settings: AugmentSettings) -> bool:
    """Whether any of them is on."""
    return any(value > 0 for value in (settings.grey, settings.shot_noise, settings.jpeg, settings.erase))


def camera_effects(image: Array, rng: np.random.Generator, settings: AugmentSettings) -> Array:
    """In the order of a camera: light, colour, noise, compression; what stands in the way last. (H, W, 3) uint8 in and out."""
    image = np.ascontiguousarray(image)
    if settings.grey > 0 and rng.random() < settings.grey:
        image = cv2.transform(image, _GREY)
    if settings.shot_noise > 0 and rng.random() < 0.5:
        image = _noisy(image, rng, float(rng.uniform(0, settings.shot_noise)))
    if settings.jpeg > 0 and rng.random() < settings.jpeg:
        image = _compressed(image, quality=int(rng.integers(*settings.jpeg_quality, endpoint=True)))
    if settings.erase > 0 and rng.random() < settings.erase:
        image = _erased(image, rng)
    return image


def _noisy(image: Array, rng: np.random.Generator, level: float) -> Array:
    """Noise of standard deviation `level` * sqrt(brightness), both as shares of the range."""
    deviation = 255.0 * level * np.sqrt(np.arange(256, dtype=np.float32) / 255.0)
    noise = rng.standard_normal(image.shape, np.float32) * deviation[image]
    return (image + noise + 0.5).clip(0, 255).astype(np.uint8)


def _compressed(image: Array, *, quality: int) -> Array:
    done, payload = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    found = cv2.imdecode(payload, cv2.IMREAD_COLOR)
    assert found is not None
    return np.ascontiguousarray(found[..., ::-1])


def _erased(image: Array, rng: np.random.Generator) -> Array:
    height, width = image.shape[:2]
    area = rng.uniform(*_ERASED) * height * width
    aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    high, wide = min(height, max(1, round(math.sqrt(area * aspect)))), min(width, max(1, round(math.sqrt(area / aspect))))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    covered = image.copy()
    covered[top : top + high, left : left + wide] = rng.integers(0, 256, (high, wide, 3), np.uint8)
    return covered
