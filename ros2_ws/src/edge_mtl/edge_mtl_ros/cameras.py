"""Which camera scales the depth: the newest camera_info that fits the image, and what is wrong with its lens.

Knows Camera; imports nothing of ROS.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from edge_mtl.errors import FrameError
from edge_mtl.image.camera_check import camera_oddity
from edge_mtl.image.distortion import Rectification
from edge_mtl.image.frames import Intrinsics
from edge_mtl.ros import Camera, lens_fault, rectified

__all__ = ["CameraInUse", "CameraKeeper"]


@dataclass(frozen=True, slots=True)
class CameraInUse:
    """The camera of one image.

    Attributes:
        camera: scaled to the image, and of the image that `undo` makes; None where none is known.
        intrinsics: of the same image; None where depth is right only up to a factor.
        text: for diagnostics.
        lens: why the image may not be taken for a pinhole camera's, which it is all the same; empty where it may.
        undo: makes the image that is predicted on of the one that came; None where that is the same.
    """

    camera: Camera | None
    intrinsics: Intrinsics | None
    text: str
    lens: str = ""
    undo: Rectification | None = None

    @property
    def oddity(self) -> str:
        """Why it looks like the camera of other images; empty where it does not."""
        if self.camera is None or self.intrinsics is None:
            return ""
        return camera_oddity(self.intrinsics, (self.camera.height, self.camera.width))


class CameraKeeper:
    """Keeps the newest camera_info. One thread hands them in, others ask: tuples are swapped, nothing is locked."""

    def __init__(self) -> None:
        self._newest: tuple[Camera, float] | None = None
        self._refused = ""
        self._answered: tuple[tuple[Camera, tuple[int, int], bool, bool], CameraInUse] | None = None

    def put(self, camera: Camera) -> None:
        """A camera_info arrived."""
        self._newest, self._refused = (camera, time.monotonic()), ""

    def refuse(self, reason: str) -> None:
        """A camera_info arrived that cannot be read; the one before stays."""
        self._refused = reason

    def forget(self) -> None:
        """Start again without a camera."""
        self._newest, self._refused = None, ""

    def age_s(self) -> float | None:
        """Seconds since the last one arrived; None before the first."""
        newest = self._newest
        return None if newest is None else time.monotonic() - newest[1]

    def of_image(self, size: tuple[int, int] | None, *, rectified: bool, undistort: bool) -> CameraInUse:
        """The camera of an image, and why there is none where there is none.

        Args:
            size: (height, width) of the image; None before the first: the camera's own.
            rectified: the images are: their camera is P.
            undistort: undo the lens of images that are not.
        """
        newest = self._newest
        if newest is None:
            missing = self._refused or "no camera_info has come"
            return CameraInUse(None, None, f"{missing}: depth is right only up to a factor")
        camera = newest[0]
        height, width = (camera.height, camera.width) if size is None else size
        asked = camera, (height, width), rectified, undistort
        answered = self._answered
        if answered is None or answered[0] != asked:  # what undoes a lens is large, and takes long to make
            answered = self._answered = asked, _of_image(camera, width, height, rectified=rectified, undistort=undistort)
        return answered[1]


def _of_image(camera: Camera, width: int, height: int, *, rectified: bool, undistort: bool) -> CameraInUse:
    """The camera of an image of this size, by the newest camera_info."""
    try:
        scaled = camera.of_image(width, height)
        intrinsics = scaled.intrinsics(rectified=rectified)
    except FrameError as exc:
        return CameraInUse(None, None, f"{str(exc).rstrip('.')}: depth is unscaled")
    if intrinsics is None:
        return CameraInUse(scaled, None, "camera_info is not calibrated: depth is right only up to a factor")
    if rectified:
        return CameraInUse(scaled, intrinsics, _text("P", intrinsics))
    return _undone(scaled) if undistort else _as_it_is(scaled, intrinsics)


def _as_it_is(camera: Camera, intrinsics: Intrinsics, reason: str = "") -> CameraInUse:
    """An unrectified image as if it were a pinhole camera's."""
    fault = lens_fault(camera)
    if fault is None and not reason:
        return CameraInUse(camera, intrinsics, _text("K", intrinsics))
    text = reason or (fault.text if fault is not None else "")
    remedy = "set undistort, or remap" if fault is not None and fault.can_be_undone and not reason else "remap"
    lens = f"{text}, and images are taken for a pinhole camera's: {remedy} image to the rectified one and set rectified"
    return CameraInUse(camera, intrinsics, _text("K", intrinsics), lens)


def _undone(camera: Camera) -> CameraInUse:
    """An image whose lens is undone."""
    try:
        straight, undo = rectified(camera)
        intrinsics = straight.intrinsics()
    except FrameError as exc:
        found = camera.intrinsics()
        assert found is not None
        return _as_it_is(camera, found, f"undistort cannot be done: {str(exc).rstrip('.')}")
    assert intrinsics is not None
    if undo is None:
        return CameraInUse(straight, intrinsics, _text("K", intrinsics))
    zoom = f", zoomed in {undo.zoom:.2f} times" if undo.zoom > 1.0 else ""
    return CameraInUse(straight, intrinsics, f"{_text('lens undone by D', intrinsics)}{zoom}", undo=undo)


def _text(source: str, intrinsics: Intrinsics) -> str:
    return f"{source} of camera_info, fx {intrinsics.fx:.1f} px"
