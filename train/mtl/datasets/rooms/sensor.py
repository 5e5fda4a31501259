"""What a camera adds: exposure, white balance, vignetting, motion blur, noise; and what it loses.

`lost_depth` and `unlabelled` imitate the holes of a depth camera and of hand-made labels.
"""

from __future__ import annotations

import cv2
import numpy as np

from .labels import Label
from .materials import Rng
from .surfaces import Surfaces


def photograph(radiance: np.ndarray, rng: Rng, *, motion_blur_fraction: float, noise: float) -> np.ndarray:
    """(H, W, 3) uint8 from linear light (H, W, 3) float32."""
    height, width = radiance.shape[:2]
    level = float(rng.uniform(0.19, 0.36)) / max(float(np.median(radiance[..., 1])), 1e-3)
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


def lost_depth(depth_m: np.ndarray, seen: Surfaces, directions: np.ndarray, rng: Rng) -> np.ndarray:
    """(H, W) bool: pixels for which a structured-light camera returns no depth.

    Dark and glossy surfaces, glass, grazing and far ones fail in patches; so does a strip left of near edges.
    """
    height, width = depth_m.shape
    facing = np.abs((seen.normals * directions).sum(0)) / np.sqrt((directions * directions).sum(0))
    brightness = seen.albedo.mean(0)
    risk = 0.7 * seen.gloss * (brightness < 0.1) + 0.5 * (brightness < 0.02) + 0.6 * (facing < 0.12)
    risk += 0.5 * np.clip((depth_m.ravel() - 4.0) / 4.0, 0, 1) + 0.5 * (seen.glow > 1.0) + 0.02
    coarse = rng.random((max(2, height // 12), max(2, width // 12)), np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    field = 0.7 * field + 0.3 * rng.random((height, width), np.float32)
    lost = field < risk.reshape(height, width)
    reach = max(1, round(width / 96))
    for shift in range(1, reach + 1):
        nearer = depth_m[:, shift:] < depth_m[:, :-shift] - 0.06 * shift - 0.05
        lost[:, :-shift] |= nearer
    return lost


def unlabelled(seen: Surfaces, rng: Rng, height: int, width: int) -> np.ndarray:
    """(H, W) bool: a line along class boundaries, and a few whole small things nobody named."""
    label = seen.label.reshape(height, width)
    boundary = np.zeros((height, width), bool)
    boundary[:, 1:] |= label[:, 1:] != label[:, :-1]
    boundary[1:] |= label[1:] != label[:-1]
    shape_number = seen.patch // 8
    small = np.unique(shape_number[seen.label == Label.OBJECTS])
    forgotten = small[rng.random(len(small)) < 0.15]
    return boundary | np.isin(shape_number, forgotten).reshape(height, width)
