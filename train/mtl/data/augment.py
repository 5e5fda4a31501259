"""Random views of a frame: mirror, zoom and photometry, with targets that stay true to geometry.

Knows frames and the canonical camera; knows nothing about batches. A zoom changes the focal length, not the depth, and a
mirror turns the normals: intrinsics follow, so that a plane stays a plane. Every random number comes from the generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mtl.data.frame import Frame
from mtl.geometry import Intrinsics, canonical_intrinsics, crop_and_resize_intrinsics, mirror_intrinsics, to_canonical
from mtl.settings import AugmentSettings

__all__ = ["View", "draw_view", "jitter", "see", "whole_view"]

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class View:
    """Which part of a frame is seen: `window` is (top, left, height, width) in whole pixels of the frame."""

    window: tuple[int, int, int, int]
    mirrored: bool = False


def whole_view(frame_size: tuple[int, int], *, aspect: float) -> View:
    """The largest centred window of an aspect ratio (width / height)."""
    height, width = frame_size
    high, wide = (height, round(height * aspect)) if width >= height * aspect else (round(width / aspect), width)
    return View(((height - high) // 2, (width - wide) // 2, high, wide))


def draw_view(frame_size: tuple[int, int], rng: np.random.Generator, settings: AugmentSettings, *, aspect: float) -> View:
    """A random zoom into the frame, perhaps mirrored."""
    whole = whole_view(frame_size, aspect=aspect)
    if settings.mode == "none":
        return whole
    top, left, height, width = whole.window
    zoom = float(rng.uniform(*settings.scale)) if rng.random() < settings.scale_probability else 1.0
    high, wide = max(1, round(height / zoom)), max(1, round(width / zoom))
    top += int(rng.integers(height - high + 1))
    left += int(rng.integers(width - wide + 1))
    return View((top, left, high, wide), bool(rng.random() < settings.flip))


def see(
    frame: Frame, view: View, *, size: tuple[int, int], stride: int = 1, phase: tuple[int, int] = (0, 0), canonical: bool = True
) -> tuple[Array, Array, Array, Array, Intrinsics]:
    """The view of a frame at a size.

    Args:
        size: (H, W) of the picture.
        stride, phase: targets are taken at pixels phase + stride * (i, j) of the picture only.
        canonical: whether depth and normals are given for the canonical camera (else for the view's own).
    Returns:
        image (H, W, 3) uint8; label (h, w) uint8; depth (h, w) float32; normals (h, w, 3) float32; intrinsics of the view.
    """
    height, width = size
    top, left, high, wide = view.window
    image = frame.image[top : top + high, left : left + wide]
    if (high, wide) != (height, width):
        shrinks = high > height
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    rows = np.arange(phase[0], height, stride)
    columns = np.arange(phase[1], width, stride)
    intrinsics = crop_and_resize_intrinsics(frame.intrinsics, window=view.window, size=size)
    if view.mirrored:
        image = image[:, ::-1]
        columns = width - 1 - columns
        intrinsics = mirror_intrinsics(intrinsics, width=width)
    ys = top + ((rows + 0.5) * (high / height)).astype(np.intp)
    xs = left + ((columns + 0.5) * (wide / width)).astype(np.intp)
    at = np.ix_(ys, xs)
    label, depth, normals = frame.label[at], frame.depth_m[at].astype(np.float32), frame.normals[at].astype(np.float32)
    if view.mirrored:
        normals[..., 0] *= -1
    if canonical:
        depth, normals = to_canonical(depth, normals, intrinsics, canonical_intrinsics(height, width))
    return image, label, depth, normals, intrinsics


def jitter(image: Array, rng: np.random.Generator, settings: AugmentSettings) -> Array:
    """Another exposure, white balance, saturation, sharpness and grain; (H, W, 3) uint8 in and out."""
    if settings.mode == "none":
        return image
    ramp = np.linspace(0.0, 1.0, 256, dtype=np.float32)[:, None]
    gain = np.exp(rng.uniform(-settings.brightness, settings.brightness)) * np.exp(rng.uniform(-1, 1, 3) * settings.colour)
    contrast = np.exp(rng.uniform(-settings.contrast, settings.contrast))
    gamma = np.exp(rng.uniform(-settings.gamma, settings.gamma))
    curve = (ramp**gamma * gain.astype(np.float32) - 0.5) * contrast + 0.5
    curve[0] = 0.0
    table = (curve.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    image = cv2.LUT(np.ascontiguousarray(image), table[None])
    saturation = float(np.exp(rng.uniform(-settings.saturation, settings.saturation)))
    grey = np.array([0.299, 0.587, 0.114], np.float32)
    mix = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * grey[None]
    image = cv2.transform(image, mix)
    if rng.random() < settings.blur:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2)))
    if settings.noise > 0 and rng.random() < 0.5:
        image = _grained(image, rng, float(rng.uniform(0, settings.noise)))
    return image


def _grained(image: Array, rng: np.random.Generator, level: float) -> Array:
    grain = rng.integers(-32, 32, image.shape, np.int8).astype(np.float32)
    return cv2.addWeighted(image.astype(np.float32), 1.0, grain, level * 255 / 18.5, 0.5).clip(0, 255).astype(np.uint8)
