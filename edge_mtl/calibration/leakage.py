"""Keeping frames that accuracy is measured on out of calibration. Knows a bundle's held-out frames; chooses nothing.

An accuracy check is worth something only if the ranges were not learnt on the frames it measures: the same pixels, and images
that are nearly the same (encoded again, resized, a little moved), are refused. Where calibration frames may not travel with the
bundle, fingerprints of them do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_mtl.bundle import CALIBRATION, EVALUATION, GOLDEN, RECORDED, Bundle
from edge_mtl.calibration.frame_features import THUMBNAIL, thumbnail
from edge_mtl.errors import CalibrationError
from edge_mtl.quantization.recorded import read_recorded
from edge_mtl.sources.images import IMAGE_SUFFIXES, decode_image

__all__ = ["NEAR", "HeldOut", "fingerprint", "held_out", "leakage_error", "refuse_calibrated", "refuse_held_out"]

Array = np.ndarray

NEAR = 0.2
"""Root mean square difference of two thumbnails below which images count as nearly the same. Measured on 100 rooms at
288x384: encoded again, resized, darker or noisy at most 0.06, moved by 4 pixels at most 0.21; other rooms at least 0.46."""

_LEAST_CONTRAST = 6.0
_BITS = 1024
_NEAR_BITS = 0.1
"""Share of bits of two fingerprints that differ below which images count as nearly the same: at `NEAR` 0.064 is expected, at
the 0.46 that other rooms are apart 0.148, each give or take 0.011."""
_TARGET_ENDINGS = (".label.png", ".depth.png", ".normals.png")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The evaluation and golden frames of a bundle: names, thumbnails (N, 192), and their contrast."""

    names: tuple[str, ...]
    thumbs: Array
    contrasts: Array

    def match(self, thumb: Array, contrast: float) -> str | None:
        """Name of the held-out frame that a frame (nearly) is; None if there is none. Almost flat frames match nothing."""
        if not self.names or contrast < _LEAST_CONTRAST:
            return None
        distance = np.sqrt(np.square(self.thumbs - thumb).mean(axis=1))
        distance[self.contrasts < _LEAST_CONTRAST] = np.inf
        nearest = int(distance.argmin())
        return self.names[nearest] if distance[nearest] < NEAR else None


def held_out(bundle: Bundle, *, folders: Sequence[str] = (EVALUATION, GOLDEN)) -> HeldOut:
    """Those of `bundle`, or the images in other folders of it. Raises BundleError where one was altered."""
    names, thumbs, contrasts = [], [], []
    for name in (name for folder in folders for name in bundle.list(folder, suffixes=IMAGE_SUFFIXES)):
        if name.endswith(_TARGET_ENDINGS):
            continue
        image = decode_image(bundle.read(name))
        if image is not None:
            thumb, contrast = thumbnail(image)
            names.append(name)
            thumbs.append(thumb)
            contrasts.append(contrast)
    return HeldOut(tuple(names), np.array(thumbs, np.float32), np.array(contrasts))


def refuse_held_out(bundle: Bundle, images: Mapping[str, tuple[Array, float]]) -> None:
    """Raises CalibrationError naming images that are held-out frames of `bundle`, or nearly; `thumbnail` by name."""
    against = held_out(bundle)
    found = [(name, match) for name, seen in images.items() if (match := against.match(*seen)) is not None]
    if found:
        raise leakage_error(found)


def fingerprint(thumb: Array) -> Array:
    """(128,) uint8: on which side of 1,024 fixed random planes a thumbnail lies (Charikar 2002). It shows nothing of the image.

    The share of bits in which two differ is the angle between the thumbnails over 180 degrees, in the mean over planes.
    """
    size = THUMBNAIL[0] * THUMBNAIL[1]
    drawn = hashlib.shake_256(b"edge_mtl fingerprint 1").digest(_BITS * size // 8)
    planes = np.unpackbits(np.frombuffer(drawn, np.uint8)).reshape(_BITS, size).astype(np.float32) * 2 - 1
    return np.packbits(planes @ thumb > 0)


def refuse_calibrated(bundle: Bundle, images: Mapping[str, tuple[Array, float]]) -> None:
    """Raises CalibrationError naming frames to measure on that are calibration frames of `bundle`, or nearly."""
    against = held_out(bundle, folders=(CALIBRATION,))
    found = [f"{name} is {match}" for name, seen in images.items() if (match := against.match(*seen)) is not None]
    if bundle.has(RECORDED):
        known = read_recorded(bundle.read(RECORDED), source=str(bundle.path / RECORDED)).fingerprints
        found += [
            f"{name} is calibration frame {number}"
            for name, seen in images.items()
            if (number := _recorded_match(known, *seen)) is not None
        ]
    if found:
        shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise CalibrationError(
            f"{len(found)} frames to measure on were calibrated with, or nearly: {shown}. Measure on other frames."
        )


def _recorded_match(known: Array, thumb: Array, contrast: float) -> int | None:
    """Number of the recorded frame that a frame (nearly) is. Almost flat frames match nothing."""
    if contrast < _LEAST_CONTRAST:
        return None
    apart = np.unpackbits(known ^ fingerprint(thumb), axis=1).mean(axis=1)
    nearest = int(apart.argmin())
    return nearest if apart[nearest] < _NEAR_BITS else None


def leakage_error(found: Sequence[tuple[str, str]]) -> CalibrationError:
    """The error for (frame, held-out frame) pairs."""
    shown = ", ".join(f"{name} is {match}" for name, match in found[:3]) + (", ..." if len(found) > 3 else "")
    return CalibrationError(
        f"{len(found)} calibration frames are frames that accuracy is measured on, or nearly: {shown}. "
        "Calibrate with other frames, or the measured accuracy would mean nothing."
    )
