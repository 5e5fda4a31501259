"""Calibration frames: from the bundle or from a folder of images, at network size. Knows nothing about graphs.

There are no default frames: an empty set is an error, and images that cannot be read are named. A bundle whose frames may not
travel holds statistics of them, which stand in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_mtl.bundle import CALIBRATION, RECORDED, Bundle
from edge_mtl.calibration.frame_features import thumbnail
from edge_mtl.calibration.leakage import refuse_held_out
from edge_mtl.errors import CalibrationError
from edge_mtl.files import sha256_bytes
from edge_mtl.image.frames import letterbox_image
from edge_mtl.quantization.recorded import Recorded, read_recorded
from edge_mtl.sources.images import IMAGE_SUFFIXES, decode_image

__all__ = ["OWN_FRAMES", "CalibrationSet", "load_calibration"]

Array = np.ndarray

OWN_FRAMES = "bundle"
"""`CalibrationSet.source` of the frames that a bundle brings along."""


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Frames to calibrate with.

    Attributes:
        frames: (H, W, 3) uint8 RGB, network size; none where the bundle holds statistics in their place.
        source: `OWN_FRAMES`, or the folder's name.
        digest: SHA-256 over the pixels, in order.
        skipped: names of images that could not be read, within the allowed share.
        recorded: the statistics that stand in place of frames.
    """

    frames: tuple[Array, ...]
    source: str
    digest: str
    skipped: tuple[str, ...]
    recorded: Recorded | None = None

    def __len__(self) -> int:
        """How many frames ranges are learnt from."""
        return len(self.frames) if self.recorded is None else len(self.recorded)

    @property
    def material(self) -> tuple[Array, ...] | Recorded:
        """What quantization takes: the frames, or the statistics."""
        return self.frames if self.recorded is None else self.recorded

    def images(self) -> tuple[Array, ...]:
        """The frames, for what statistics do not do. Raises CalibrationError where these stand in their place."""
        if self.recorded is not None:
            raise CalibrationError(
                f"The bundle holds statistics of {len(self)} calibration frames in place of the frames, which are needed here. "
                "Give a folder of images, or calibrate the bundle with some: edge-mtl calibrate SOURCE."
            )
        return self.frames


def load_calibration(bundle: Bundle, folder: Path | None = None, *, count: int, unreadable_share: float) -> CalibrationSet:
    """Calibration frames of the bundle, or what it holds in their place, or the images in `folder` and below.

    Args:
        folder: images of any size, letterboxed to the network's input as at run time; None uses the bundle's.
        count: use at most this many, evenly spaced over the sorted names.
        unreadable_share: how many of the chosen images may be unreadable, 0..1.
    Raises:
        CalibrationError: no images, too many unreadable ones (named), images without any contrast, images that
            the bundle's accuracy is measured on, or statistics of more frames than `count`.
        BundleError: a calibration frame of the bundle was altered.
    """
    names: Sequence[str | Path]
    if folder is None and bundle.has(RECORDED):
        return _recorded(bundle, count)
    if folder is None:
        names = bundle.list(CALIBRATION, suffixes=IMAGE_SUFFIXES)
        where = f"The bundle {bundle.path} has no calibration frames"
    else:
        if not folder.is_dir():
            raise CalibrationError(f"{folder} is not a folder: expected one with images to calibrate with.")
        names = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        where = f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})"
    if not names:
        raise CalibrationError(f"{where}. Give a folder of images like those the device will see: --calibration DIR")
    chosen = [names[index] for index in np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)]
    frames, seen, skipped = [], {}, []
    for name in chosen:
        image = decode_image(_read(bundle, name))
        if image is None:
            skipped.append(str(name))
        else:
            seen[str(name)] = thumbnail(image)
            frames.append(letterbox_image(image, bundle.manifest.input))
    if len(skipped) > unreadable_share * len(chosen) or not frames:
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        raise CalibrationError(
            f"{len(skipped)} of {len(chosen)} calibration images cannot be read: {shown}. "
            f"At most {unreadable_share:.0%} may be unreadable. Remove or replace them."
        )
    if all(frame.min() == frame.max() for frame in frames):
        raise CalibrationError(
            f"All {len(frames)} calibration images are of a single colour: ranges cannot be learnt from them. "
            "Give images like those the device will see: --calibration DIR"
        )
    refuse_held_out(bundle, seen)
    digest = sha256_bytes(b"".join(np.ascontiguousarray(frame).tobytes() for frame in frames))
    return CalibrationSet(tuple(frames), OWN_FRAMES if folder is None else folder.name, digest, tuple(skipped))


def _recorded(bundle: Bundle, count: int) -> CalibrationSet:
    recorded = read_recorded(bundle.read(RECORDED), source=str(bundle.path / RECORDED))
    if count < len(recorded):
        raise CalibrationError(
            f"{bundle.path} holds statistics of {len(recorded)} calibration frames in place of the frames, and fewer cannot be "
            f"taken out of them; at most {count} were asked for. Ask for {len(recorded)}, or give a folder of images with "
            "--calibration DIR."
        )
    return CalibrationSet((), OWN_FRAMES, recorded.digest, (), recorded)


def _read(bundle: Bundle, name: str | Path) -> bytes:
    if isinstance(name, str):
        return bundle.read(name)
    try:
        return name.read_bytes()
    except OSError:
        return b""
