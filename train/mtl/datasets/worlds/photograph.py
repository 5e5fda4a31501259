"""What a camera adds: exposure, white balance, vignetting, motion blur, noise."""

from __future__ import annotations

import cv2
import numpy as np

from .materials import Rng


def photograph(
    radiance: np.ndarray, rng: Rng, *, motion_blur_fraction: float, noise: float, exposure: tuple[float, float] = (0.19, 0.36)
) -> np.ndarray:
    """(H, W, 3) uint8 from linear light (H, W, 3) float32, whose median is brought to within `exposure`."""
    height, width = radiance.shape[:2]
    level = float(rng.uniform(*exposure)) / max(float(np.median(radiance[..., 1])), 1e-3)
    balance = rng.normal(1, 0.045, 3).astype(np.float32)
    fall_off = np.float32(rng.uniform(0, 0.25))
    grain = np.float32(rng.uniform(0.002, 0.012) * noise)
    blurred, angle, length = rng.random() < motion_blur_fraction, float(rng.uniform(0, np.pi)), float(rng.uniform(2, 5))
    light = radiance * (np.float32(level) * balance)
    light = light / (1 + np.float32(0.3) * light)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    light *= (1 - fall_off * (x * x + y * y) / 2)[..., None]
    if blurred:
        light = cv2.filter2D(light, -1, _streak(angle, length * width / 384), borderType=cv2.BORDER_REPLICATE)
    image = np.sqrt(np.maximum(light, 0)) ** np.float32(2 / 2.2)
    if grain > 0:
        image += rng.standard_normal(image.shape, np.float32) * grain
    return (image.clip(0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def _streak(angle_rad: float, length_px: float) -> np.ndarray:
    """A normalised line-shaped kernel."""
    kernel = np.zeros((9, 9), np.float32)
    for along in np.linspace(-length_px / 2, length_px / 2, 17):
        x, y = 4 + along * np.cos(angle_rad), 4 + along * np.sin(angle_rad)
        kernel[round(float(np.clip(y, 0, 8))), round(float(np.clip(x, 0, 8)))] += 1
    return kernel / kernel.sum()
