"""The camera of a sensor_msgs/CameraInfo: binning, region of interest, scaling. Imports nothing of ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_mtl.errors import FrameError
from edge_mtl.image.camera_check import camera_fault
from edge_mtl.image.frames import Intrinsics

__all__ = ["NO_ROTATION", "Camera", "camera_of"]

NO_ROTATION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Camera:
    """What a sensor_msgs/CameraInfo says, as plain numbers.

    Attributes:
        width, height: of the image that it describes, in pixels.
        k: (9,) intrinsic matrix row by row; all zero: not calibrated.
        d: distortion, (0,) or more; unchanged by scaling.
        r: (9,) rectification.
        p: (12,) projection; its fourth column is -f times the stereo baseline, in pixels times metres.
        distortion_model: "plumb_bob", "rational_polynomial", ...
        sized: binning or a region of interest was stated, so that images of another size are not this camera's.
    """

    width: int
    height: int
    k: tuple[float, ...]
    d: tuple[float, ...] = ()
    r: tuple[float, ...] = NO_ROTATION
    p: tuple[float, ...] = (0.0,) * 12
    distortion_model: str = "plumb_bob"
    sized: bool = False

    @classmethod
    def of(
        cls,
        *,
        width: int,
        height: int,
        k: Sequence[float],
        d: Sequence[float] = (),
        r: Sequence[float] = (),
        p: Sequence[float] = (),
        distortion_model: str = "plumb_bob",
        binning: tuple[int, int] = (1, 1),
        roi: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> Camera:
        """From the message's fields, with binning and region of interest applied: the camera of the images delivered.

        Args:
            binning: (x, y) pixels that were added up; 0 means 1.
            roi: (x_offset, y_offset, width, height) in pixels of the whole sensor; width or height 0: all of it.
        Raises:
            FrameError: K, R or P has another number of values.
        """
        for name, values, counts in (("K", k, (9,)), ("R", r, (0, 9)), ("P", p, (0, 12))):
            if len(values) not in counts:
                raise FrameError(f"{name} of a camera_info has {counts[-1]} values; found {len(values)}.")
        whole = cls(
            int(width),
            int(height),
            tuple(float(value) for value in k),
            tuple(float(value) for value in d),
            tuple(float(value) for value in r) or NO_ROTATION,
            tuple(float(value) for value in p) or (0.0,) * 12,
            distortion_model,
        )
        x, y, roi_width, roi_height = roi
        cut = whole._shifted(x, y, roi_width, roi_height) if roi_width and roi_height else whole
        bin_x, bin_y = max(1, binning[0]), max(1, binning[1])
        sized = (cut.width, cut.height) != (whole.width, whole.height) or (bin_x, bin_y) != (1, 1)
        binned = cut if (bin_x, bin_y) == (1, 1) else cut.scaled(cut.width // bin_x, cut.height // bin_y)
        return replace(binned, sized=sized)

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera for images of another size: fx, cx and the first row of P by sx; fy, cy and the second by sy.

        This is what image_proc and image_geometry do. Raises FrameError where the sizes are none.
        """
        if (width, height) == (self.width, self.height):
            return self
        if min(width, height, self.width, self.height) < 1:
            raise FrameError(f"a camera of {self.width}x{self.height} cannot be scaled to {width}x{height}.")
        sx, sy = width / self.width, height / self.height
        rows3, rows4 = (sx,) * 3 + (sy,) * 3 + (1.0,) * 3, (sx,) * 4 + (sy,) * 4 + (1.0,) * 4
        return replace(
            self,
            width=width,
            height=height,
            k=tuple(value * factor for value, factor in zip(self.k, rows3, strict=True)),
            p=tuple(value * factor for value, factor in zip(self.p, rows4, strict=True)),
        )

    def fits(self, width: int, height: int) -> bool:
        """Whether images of this size may come from this camera: the same aspect ratio within a pixel, as of resized ones.

        Where binning or a region of interest was stated, the size that follows from them, within a pixel: another one
        contradicts them, and then nobody knows which part of the sensor the image is.
        """
        if self.width < 1 or self.height < 1:
            return (width, height) == (self.width, self.height)
        if self.sized:
            return max(abs(self.width - width), abs(self.height - height)) <= 1
        return abs(self.height * width / self.width - height) <= 1.0

    def of_image(self, width: int, height: int) -> Camera:
        """This camera for images of a size. Raises FrameError where they are not its images."""
        if not self.fits(width, height):
            by = " by its binning and region of interest" if self.sized else ""
            raise FrameError(f"camera_info of {self.width}x{self.height}{by} does not fit images of {width}x{height}")
        return self.scaled(width, height)

    def resizing(self, width: int, height: int) -> str:
        """What to say where images of another size are taken for this camera's; "" where they are of its size."""
        if (self.width, self.height) == (width, height):
            return ""
        return f"the camera_info of {self.width}x{self.height} is scaled to images of {width}x{height}, as if they were resized"

    def intrinsics(self, *, rectified: bool = False) -> Intrinsics | None:
        """The pinhole camera: K, or P of rectified images; None where it was never calibrated.

        Raises:
            FrameError: the numbers are no camera, or none of images of its size; see `edge_mtl.image.camera_check`.
        """
        fx, fy, cx, cy = (
            (self.p[0], self.p[5], self.p[2], self.p[6]) if rectified else (self.k[0], self.k[4], self.k[2], self.k[5])
        )
        if fx == 0 and fy == 0:
            return None
        if not all(math.isfinite(value) for value in (fx, fy, cx, cy)) or fx <= 0 or fy <= 0:
            raise FrameError(f"camera_info holds no camera: fx={fx}, fy={fy}, cx={cx}, cy={cy}. Calibrate the camera again.")
        found = Intrinsics(fx, fy, cx, cy)
        fault = camera_fault(found, (self.height, self.width)) if self.width and self.height else ""
        if fault:
            raise FrameError(f"camera_info holds no camera of its images: {fault}.")
        return found

    def _shifted(self, x: int, y: int, width: int, height: int) -> Camera:
        k, p = list(self.k), list(self.p)
        k[2], k[5] = k[2] - x, k[5] - y
        p[2], p[6] = p[2] - x, p[6] - y
        return replace(self, width=width, height=height, k=tuple(k), p=tuple(p))


def camera_of(message: Any) -> Camera:
    """A Camera from a sensor_msgs/CameraInfo, or anything with its fields. Raises FrameError where they are none."""
    roi = message.roi
    try:
        return Camera.of(
            width=message.width,
            height=message.height,
            k=message.k,
            d=message.d,
            r=message.r,
            p=message.p,
            distortion_model=message.distortion_model,
            binning=(message.binning_x, message.binning_y),
            roi=(roi.x_offset, roi.y_offset, roi.width, roi.height),
        )
    except (TypeError, ValueError) as exc:
        raise FrameError(f"camera_info cannot be read: {exc}") from exc
