"""Which camera scales the depth: the newest camera_info that fits the image. Knows Camera; imports nothing of ROS."""

from __future__ import annotations

import time
from dataclasses import dataclass

from edge_mtl.errors import FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.ros import Camera

__all__ = ["CameraInUse", "CameraKeeper"]


@dataclass(frozen=True, slots=True)
class CameraInUse:
    """The camera of one image.

    Attributes:
        camera: scaled to the image; None where none is known.
        intrinsics: of the image; None where depth is right only up to a factor.
        text: for diagnostics.
    """

    camera: Camera | None
    intrinsics: Intrinsics | None
    text: str


class CameraKeeper:
    """Keeps the newest camera_info. One thread hands them in, another asks: a tuple is swapped, nothing is locked."""

    def __init__(self) -> None:
        self._newest: tuple[Camera, float] | None = None

    def put(self, camera: Camera) -> None:
        """A camera_info arrived."""
        self._newest = camera, time.monotonic()

    def forget(self) -> None:
        """Start again without a camera."""
        self._newest = None

    def age_s(self) -> float | None:
        """Seconds since the last one arrived; None before the first."""
        newest = self._newest
        return None if newest is None else time.monotonic() - newest[1]

    def of_image(self, width: int, height: int, *, rectified: bool) -> CameraInUse:
        """The camera of an image of this size, and why there is none where there is none."""
        if self._newest is None:
            return CameraInUse(None, None, "no camera_info has come: depth is right only up to a factor")
        camera = self._newest[0]
        if not camera.fits(width, height):
            found = f"{camera.width}x{camera.height}"
            return CameraInUse(None, None, f"camera_info of {found} does not fit images of {width}x{height}: depth is unscaled")
        try:
            scaled = camera.scaled(width, height)
            intrinsics = scaled.intrinsics(rectified=rectified)
        except FrameError as exc:
            return CameraInUse(None, None, str(exc))
        if intrinsics is None:
            return CameraInUse(scaled, None, "camera_info is not calibrated: depth is right only up to a factor")
        source = "P" if rectified else "K"
        return CameraInUse(scaled, intrinsics, f"{source} of camera_info, fx {intrinsics.fx:.1f} px")
