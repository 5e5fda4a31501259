"""What spoils an image between the scene and the network, at five severities: noise, blur, compression, exposure, fog.

Every function is pure: (image, severity, rng) -> image of the same size; severity 0 gives the image back. Blurs and pixels of
motion are shares of the image's width, so that a severity means the same at every size. Truths stay as they are: nothing moves.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import cv2
import numpy as np

from edge_mtl.tasks import Specs
from mtl.datasets.frame import Frame, FrameSource

__all__ = ["AIRLIGHT", "CORRUPTIONS", "FOG_FAR_M", "SEVERITIES", "CorruptedFrames", "corrupted", "fog"]

Array = np.ndarray
Rng = np.random.Generator

SEVERITIES = (0, 1, 2, 3, 4, 5)

AIRLIGHT = (0.78, 0.79, 0.81)
"""What is seen through endless fog by day, RGB as shares of white."""
FOG_FAR_M = 80.0
"""Where fog of a severity has the density of `_FOG`: as far as streets go."""

_GAUSSIAN = (0.0, 0.03, 0.06, 0.1, 0.16, 0.24)
"""Standard deviation, as a share of white."""
_SHOT = (0.0, 180.0, 70.0, 30.0, 14.0, 7.0)
"""Photons of white."""
_DEFOCUS = (0.0, 0.004, 0.007, 0.011, 0.017, 0.025)
"""Radius of the disc, in widths."""
_MOTION = (0.0, 0.015, 0.028, 0.045, 0.07, 0.1)
"""Length of the streak, in widths."""
_JPEG = (0, 40, 25, 15, 9, 5)
"""Quality."""
_BRIGHTNESS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Added, as a share of white."""
_CONTRAST = (1.0, 0.7, 0.5, 0.35, 0.22, 0.12)
"""What is left of the distance from the mean."""
_FOG = (0.0, 0.8, 1.6, 2.8, 4.5, 7.5)
"""beta times `FOG_FAR_M`; by Koschmieder's law one sees 390, 196, 112, 70 and 42 m far."""


def corrupted(
    image: Array, kind: str, severity: int, rng: Rng, *, depth_m: Array | None = None, far_m: float = FOG_FAR_M
) -> Array:
    """An image after a corruption.

    Args:
        image: (H, W, 3) uint8 RGB.
        kind: one of `CORRUPTIONS`.
        severity: 0 for the image as it is, to 5.
        rng: from which noise and directions are drawn.
        depth_m: (H, W) true distance, 0 where there is nothing or what is there is farther than is known; for fog only.
        far_m: the distance at which fog of a severity is as dense as outdoors at 80 m.
    Raises:
        ValueError: an unknown kind or severity, or fog without depth.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"corruptions are {', '.join(CORRUPTIONS)}, not {kind!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"severities are 0 to 5, not {severity}")
    if severity == 0:
        return image
    if kind != "fog":
        return _ALONE[kind](image, severity, rng)
    if depth_m is None:
        raise ValueError("fog needs the true depth of the frame, which it has none of")
    return fog(image, depth_m, _FOG[severity] / far_m)


def fog(image: Array, depth_m: Array, beta: float, *, airlight: tuple[float, float, float] = AIRLIGHT) -> Array:
    """I = J e^(-beta d) + A (1 - e^(-beta d)) on the image's own values; places without depth are infinitely far.

    Source: Koschmieder's law, as Narasimhan & Nayar 2002, "Vision and the Atmosphere", write it.
    """
    if beta == 0:
        return image
    left = np.where(depth_m > 0, np.exp(-beta * np.asarray(depth_m, np.float32)), np.float32(0))[..., None]
    return _bytes(_shares(image) * left + np.asarray(airlight, np.float32) * (1 - left))


def _gaussian_noise(image: Array, severity: int, rng: Rng) -> Array:
    return _bytes(_shares(image) + rng.normal(size=image.shape).astype(np.float32) * np.float32(_GAUSSIAN[severity]))


def _shot_noise(image: Array, severity: int, rng: Rng) -> Array:
    photons = _SHOT[severity]
    return _bytes((rng.poisson(_shares(image) * photons) / photons).astype(np.float32))


def _defocus_blur(image: Array, severity: int, rng: Rng) -> Array:
    return _filtered(image, _disc(_DEFOCUS[severity] * image.shape[1]))


def _motion_blur(image: Array, severity: int, rng: Rng) -> Array:
    """A streak in a direction that is more across than along: cameras on vehicles turn more than they nod."""
    return _filtered(image, _streak(_MOTION[severity] * image.shape[1], float(rng.normal(0, 0.35))))


def _jpeg(image: Array, severity: int, rng: Rng) -> Array:
    fine, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG[severity]])
    assert fine
    found = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert found is not None
    return np.ascontiguousarray(found[..., ::-1])


def _brightness(image: Array, severity: int, rng: Rng) -> Array:
    """Overexposed: what was bright is white."""
    return _bytes(_shares(image) + np.float32(_BRIGHTNESS[severity]))


def _contrast(image: Array, severity: int, rng: Rng) -> Array:
    mean = _shares(image).mean(axis=(0, 1), keepdims=True)
    return _bytes(mean + (_shares(image) - mean) * np.float32(_CONTRAST[severity]))


_ALONE: Mapping[str, Callable[[Array, int, Rng], Array]] = {
    "gaussian noise": _gaussian_noise,
    "shot noise": _shot_noise,
    "defocus blur": _defocus_blur,
    "motion blur": _motion_blur,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
}

CORRUPTIONS = (*_ALONE, "fog")
"""All of them, in the order of reports."""


class CorruptedFrames:
    """The frames of a source, spoilt in one way at one severity; what is drawn depends on the frame's number alone.

    Args:
        depth: the task whose truth is the distance; fog of a frame without it is a ValueError when the frame is asked for.
    """

    def __init__(
        self, frames: FrameSource, kind: str, severity: int, *, depth: str = "depth", far_m: float = FOG_FAR_M
    ) -> None:
        self._frames, self._kind, self._severity = frames, kind, severity
        self._depth, self._far_m = depth, far_m

    @property
    def tasks(self) -> Specs:
        return self._frames.tasks

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        frame = self._frames[index]
        rng = np.random.default_rng([zlib.crc32(self._kind.encode()), index])
        depth_m = frame.truths.get(self._depth)
        image = corrupted(frame.image, self._kind, self._severity, rng, depth_m=depth_m, far_m=self._far_m)
        return replace(frame, image=image)


def _shares(image: Array) -> Array:
    return image.astype(np.float32) / np.float32(255)


def _bytes(shares: Array) -> Array:
    found: Array = np.rint(np.clip(shares, 0, 1) * np.float32(255)).astype(np.uint8)
    return found


def _filtered(image: Array, kernel: Array) -> Array:
    return _bytes(cv2.filter2D(_shares(image), -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def _disc(radius_px: float) -> Array:
    """What a point becomes out of focus: an even disc, its edge covered by share."""
    half = int(np.ceil(radius_px))
    steps = np.arange(-half, half + 1, dtype=np.float32)
    cover = np.clip(radius_px + 0.5 - np.hypot(*np.meshgrid(steps, steps)), 0, 1)
    return (cover / cover.sum()).astype(np.float32)


def _streak(length_px: float, angle: float) -> Array:
    """What a point becomes while the camera turns: an even line through the middle, its points spread over four pixels each."""
    half = int(np.ceil(length_px / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for along in np.linspace(-length_px / 2, length_px / 2, 8 * half + 1):
        x, y = half + along * np.cos(angle), half + along * np.sin(angle)
        left, top = int(np.floor(x)), int(np.floor(y))
        for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, right in ((left, 1 - (x - left)), (left + 1, x - left)):
                kernel[row, column] += np.float32(down * right)
    return kernel / kernel.sum()
