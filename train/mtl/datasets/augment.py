"""Random views of a frame: mirror, zoom and photometry, with targets that stay true to geometry, or LibMTL's.

Knows frames and the canonical camera; knows nothing about batches. A zoom changes the focal length, not the depth, and a
mirror turns the normals: intrinsics follow, so that a plane stays a plane. For a camera that does not zoom, the same image
has depth / s and normals along (nx, ny, s nz). LibMTL divides the depth and leaves the normals: on rooms, they then differ
from those of the depth by 10 degrees in the mean at s = 1.5, by 5 at 1.2. Every random number comes from the generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mtl.datasets.frame import Frame
from mtl.datasets.libmtl import ZOOMS, bilinear_aligned, nearest_down
from mtl.geometry import Intrinsics, canonical_intrinsics, crop_and_resize_intrinsics, mirror_intrinsics, to_canonical
from mtl.settings import AugmentSettings

__all__ = ["View", "apply_view", "draw_view", "jitter", "whole_view"]

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class View:
    """Which part of a frame is seen, and how.

    Attributes:
        window: (top, left, height, width) in whole pixels of the frame.
        libmtl_zoom: 0 follows geometry; else pixels are resampled as LibMTL does, depth is divided by this and normals are
            left alone, as if the camera had not zoomed.
    """

    window: tuple[int, int, int, int]
    mirrored: bool = False
    libmtl_zoom: float = 0.0


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
    if settings.mode == "libmtl":
        zoom = ZOOMS[int(rng.integers(len(ZOOMS)))]
        high, wide = int(height / zoom), int(width / zoom)
        top += int(rng.integers(height - high + 1))
        left += int(rng.integers(width - wide + 1))
        return View((top, left, high, wide), bool(rng.random() < settings.flip), zoom)
    zoom = float(rng.uniform(*settings.scale)) if rng.random() < settings.scale_probability else 1.0
    high, wide = max(1, round(height / zoom)), max(1, round(width / zoom))
    top += int(rng.integers(height - high + 1))
    left += int(rng.integers(width - wide + 1))
    return View((top, left, high, wide), bool(rng.random() < settings.flip))


def apply_view(
    frame: Frame, view: View, *, size: tuple[int, int], stride: int = 1, phase: tuple[int, int] = (0, 0), canonical: bool = True
) -> tuple[Array, Array, Array, Array, Intrinsics]:
    """The view of a frame at a size.

    Args:
        size: (H, W) of the image.
        stride, phase: targets are taken at pixels phase + stride * (i, j) of the image only.
        canonical: whether depth and normals are given for the canonical camera, else for the frame's own: that of the whole
            view at this size, however much of it is seen.
    Returns:
        image (H, W, 3) uint8; label (h, w) uint8; depth (h, w) float32; normals (h, w, 3) float32; the frame's own camera.
    """
    height, width = size
    rows, columns = np.arange(phase[0], height, stride), np.arange(phase[1], width, stride)
    own = crop_and_resize_intrinsics(
        frame.intrinsics, window=whole_view(frame.label.shape, aspect=width / height).window, size=size
    )
    if view.libmtl_zoom:
        image, label, depth, normals = _see_as_libmtl(frame, view, size, rows, columns)
        seen_by = own
    else:
        image, label, depth, normals = _see_true(frame, view, size, rows, columns)
        seen_by = crop_and_resize_intrinsics(frame.intrinsics, window=view.window, size=size)
    if view.mirrored:
        own, seen_by = mirror_intrinsics(own, width=width), mirror_intrinsics(seen_by, width=width)
        normals[..., 0] *= -1
    wanted = canonical_intrinsics(height, width) if canonical else own
    if seen_by != wanted:
        depth, normals = to_canonical(depth, normals, seen_by, wanted)
    return image, label, depth, normals, own


def _see_true(
    frame: Frame, view: View, size: tuple[int, int], rows: Array, columns: Array
) -> tuple[Array, Array, Array, Array]:
    """Image by area or bilinear; targets by nearest pixel, unchanged but for the order of a mirror."""
    height, width = size
    top, left, high, wide = view.window
    image = frame.image[top : top + high, left : left + wide]
    if (high, wide) != (height, width):
        shrinks = high > height
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if view.mirrored:
        image = image[:, ::-1]
        columns = width - 1 - columns
    ys = top + ((rows + 0.5) * (high / height)).astype(np.intp)
    xs = left + ((columns + 0.5) * (wide / width)).astype(np.intp)
    at = np.ix_(ys, xs)
    return image, frame.label[at], frame.depth_m[at].astype(np.float32), frame.normals[at].astype(np.float32)


def _see_as_libmtl(
    frame: Frame, view: View, size: tuple[int, int], rows: Array, columns: Array
) -> tuple[Array, Array, Array, Array]:
    """The same in LibMTL's way; its image is rounded to 8 bits."""
    height, width = size
    top, left, high, wide = view.window
    cut = np.s_[top : top + high, left : left + wide]
    every_column = np.arange(width)
    if view.mirrored:
        every_column, columns = every_column[::-1], width - 1 - columns
    image = bilinear_aligned(frame.image[cut], size, np.arange(height), every_column)
    normals = bilinear_aligned(frame.normals[cut], size, rows, columns)
    at = np.ix_(nearest_down(high, height, rows), nearest_down(wide, width, columns))
    depth = frame.depth_m[cut][at].astype(np.float32) / np.float32(view.libmtl_zoom)
    return (image + 0.5).astype(np.uint8), frame.label[cut][at], depth, normals


def jitter(image: Array, rng: np.random.Generator, settings: AugmentSettings) -> Array:
    """Another exposure, white balance, saturation, sharpness and grain; (H, W, 3) uint8 in and out. "consistent" only."""
    if settings.mode != "consistent":
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
