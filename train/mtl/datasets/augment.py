"""Random views of a frame: mirror, zoom and photometry, with truths that stay true to geometry, or LibMTL's.

What a view does to a truth is in `mtl.tasks`. A zoom changes the focal length, not the depth, and a
mirror turns the normals: intrinsics follow, so that a plane stays a plane. For a camera that does not zoom, the same image
has depth / s and normals along (nx, ny, s nz). LibMTL divides the depth and leaves the normals: on rooms, they then differ
from those of the depth by 10 degrees in the mean at s = 1.5, by 5 at 1.2. Every random number comes from the generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from edge_mtl.tasks import Specs, TaskSpec
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Frame
from mtl.datasets.libmtl import ZOOMS, bilinear_aligned, nearest_down
from mtl.geometry import Intrinsics, canonical_intrinsics, crop_and_resize_intrinsics, mirror_intrinsics
from mtl.tasks import head_of

__all__ = ["Sampling", "SeenFrame", "View", "apply_view", "draw_view", "jitter", "view_truth", "whole_view"]

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


@dataclass(frozen=True, slots=True, eq=False)
class Sampling:
    """Which pixels of a frame's maps a view takes, and through which cameras they are seen.

    Attributes:
        view: what is seen of the frame.
        size: (H, W) of the image that it becomes.
        rows, columns: pixels of that image, before a mirror, that maps are wanted at.
        seen_by: the camera that sees the frame's truth in that image.
        wanted: the camera that truth is wanted for.
    """

    view: View
    size: tuple[int, int]
    rows: Array
    columns: Array
    seen_by: Intrinsics
    wanted: Intrinsics

    def nearest(self, values: Array) -> Array:
        """The nearest pixels of a map (H, W, ...) of the frame, a copy."""
        top, left, high, wide = self.view.window
        height, width = self.size
        if self.view.libmtl_zoom:
            ys, xs = top + nearest_down(high, height, self.rows), left + nearest_down(wide, width, self.columns)
        else:
            ys = top + ((self.rows + 0.5) * (high / height)).astype(np.intp)
            xs = left + ((self.columns + 0.5) * (wide / width)).astype(np.intp)
        return values[np.ix_(ys, xs)]

    def smooth(self, values: Array) -> Array:
        """As `nearest`, but a map (H, W, C) is interpolated where the view is LibMTL's: float32 then."""
        if not self.view.libmtl_zoom:
            return self.nearest(values)
        top, left, high, wide = self.view.window
        return bilinear_aligned(values[top : top + high, left : left + wide], self.size, self.rows, self.columns)


@dataclass(frozen=True, slots=True, eq=False)
class SeenFrame:
    """A view of a frame.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        truths: by task, as in `Frame`, for the camera that was asked for.
        intrinsics: the frame's own camera, of the whole view at this size.
    """

    image: Array
    truths: dict[str, Any]
    intrinsics: Intrinsics


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
    frame: Frame,
    view: View,
    tasks: Specs,
    *,
    size: tuple[int, int],
    stride: int = 1,
    phase: tuple[int, int] = (0, 0),
    canonical: bool = True,
) -> SeenFrame:
    """The view of a frame at a size.

    Args:
        tasks: whose truths are wanted; those that the frame does not have are left out.
        size: (H, W) of the image.
        stride, phase: maps are taken at pixels phase + stride * (i, j) of the image only.
        canonical: whether truths are given for the canonical camera, else for the frame's own: that of the whole view at
            this size, however much of it is seen.
    """
    sampling, own = _sampling(frame, view, size=size, stride=stride, phase=phase, canonical=canonical)
    truths = {
        name: head_of(spec).view(spec, frame.truths[name], sampling) for name, spec in tasks.items() if name in frame.truths
    }
    return SeenFrame(_image(frame.image, view, size), truths, own)


def view_truth(frame: Frame, view: View, spec: TaskSpec, *, size: tuple[int, int], canonical: bool = True) -> Any:
    """The truth of one task of the view at every pixel, as in `apply_view`; the frame has to have it."""
    sampling, _ = _sampling(frame, view, size=size, stride=1, phase=(0, 0), canonical=canonical)
    return head_of(spec).view(spec, frame.truths[spec.name], sampling)


def _sampling(
    frame: Frame, view: View, *, size: tuple[int, int], stride: int, phase: tuple[int, int], canonical: bool
) -> tuple[Sampling, Intrinsics]:
    """What `Head.view` needs, and the frame's own camera of the whole view."""
    height, width = size
    rows, columns = np.arange(phase[0], height, stride), np.arange(phase[1], width, stride)
    own = crop_and_resize_intrinsics(frame.intrinsics, window=whole_view(frame.size, aspect=width / height).window, size=size)
    seen_by = own if view.libmtl_zoom else crop_and_resize_intrinsics(frame.intrinsics, window=view.window, size=size)
    if view.mirrored:
        own, seen_by = mirror_intrinsics(own, width=width), mirror_intrinsics(seen_by, width=width)
        columns = width - 1 - columns
    wanted = canonical_intrinsics(height, width) if canonical else own
    return Sampling(view, size, rows, columns, seen_by, wanted), own


def _image(image: Array, view: View, size: tuple[int, int]) -> Array:
    """The image of a view: by area or bilinear, or in LibMTL's way, rounded to 8 bits."""
    height, width = size
    top, left, high, wide = view.window
    cut = image[top : top + high, left : left + wide]
    if view.libmtl_zoom:
        columns = np.arange(width)
        resized = bilinear_aligned(cut, size, np.arange(height), columns[::-1] if view.mirrored else columns)
        return (resized + 0.5).astype(np.uint8)
    if (high, wide) != (height, width):
        shrinks = high > height
        cut = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return cut[:, ::-1] if view.mirrored else cut


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
