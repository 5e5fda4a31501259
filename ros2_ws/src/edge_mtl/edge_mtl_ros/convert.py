"""Image encodings and camera descriptions as pure functions: bytes of a message in, arrays out.

Knows the layouts of sensor_msgs/Image and CameraInfo; imports nothing of ROS. Encodings are those of
sensor_msgs/image_encodings.hpp; the YUV conversions are OpenCV's (ITU-R BT.601, limited range).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.frames import MAX_SIDE, Channels, Intrinsics

__all__ = ["ENCODINGS", "Camera", "decode_compressed", "decode_image"]

Array = np.ndarray
Buffer = bytes | bytearray | memoryview | Array


@dataclass(frozen=True, slots=True)
class _Layout:
    """How pixels lie in memory: bytes per pixel in a row, and OpenCV's conversion to RGB (None: used as it is)."""

    bytes_per_pixel: int
    conversion: int | None = None
    channels: Channels = "rgb"
    planar: bool = False


ENCODINGS: Mapping[str, _Layout] = {
    "rgb8": _Layout(3),
    "bgr8": _Layout(3, channels="bgr"),
    "8UC3": _Layout(3, channels="bgr"),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB),
    "8UC4": _Layout(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout(1, cv2.COLOR_GRAY2RGB),
    "yuv422": _Layout(2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": _Layout(2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Layout(2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": _Layout(2, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, planar=True),
    "nv21": _Layout(1, cv2.COLOR_YUV2RGB_NV21, planar=True),
    "bayer_rggb8": _Layout(1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _Layout(1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _Layout(1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _Layout(1, cv2.COLOR_BayerGB2RGB),
}
"""By name. Bare 8UC3 and 8UC4 are blue first, as cv_bridge has it; OpenCV names Bayer patterns after the second row."""


def decode_image(encoding: str, height: int, width: int, step: int, data: Buffer) -> tuple[Array, Channels]:
    """The pixels of a sensor_msgs/Image.

    Args:
        encoding: a key of ENCODINGS. All have 8 bits per channel, so the message's endianness does not matter.
        height, width: of the picture in pixels; NV12 has half as many rows again of colour.
        step: bytes from row to row, padding included.
        data: the message's bytes. rgb8 and bgr8 are not copied: the result is a view, valid as long as they are.
    Returns:
        (H, W, 3) uint8 and the order of its colours.
    Raises:
        FrameError: an unknown encoding, no pixels, or fewer bytes than its size says.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise FrameError(f"the encoding {encoding!r} is none of {', '.join(ENCODINGS)}. Convert it with image_proc first.")
    if height < 1 or width < 1 or max(height, width) > MAX_SIDE:
        raise FrameError(f"an image of 1 to {MAX_SIDE} pixels a side was expected; found {width}x{height}.")
    if layout.planar and (height % 2 or width % 2):
        raise FrameError(f"{encoding} needs even sides; found {width}x{height}.")
    if layout.bytes_per_pixel == 2 and width % 2:
        raise FrameError(f"{encoding} needs an even width; found {width}.")
    if encoding.startswith("bayer") and (height < 3 or width < 3):
        raise FrameError(f"{encoding} needs at least 3x3 pixels; found {width}x{height}.")
    rows = height * 3 // 2 if layout.planar else height
    row_bytes = width * layout.bytes_per_pixel
    pixels = _rows(data, rows, step, row_bytes)
    if layout.bytes_per_pixel > 1:
        pixels = pixels.reshape(height, width, layout.bytes_per_pixel)
    if layout.conversion is None:
        return pixels, layout.channels
    try:
        return cv2.cvtColor(np.ascontiguousarray(pixels), layout.conversion), "rgb"
    except cv2.error as exc:
        raise FrameError(f"a {width}x{height} image of {encoding} cannot be converted: {exc.err}") from exc


def decode_compressed(description: str, data: Buffer) -> tuple[Array, Channels]:
    """The pixels of a sensor_msgs/CompressedImage: JPEG, PNG, or whatever else OpenCV reads.

    Args:
        description: the message's `format`, only to refuse compressed depth and to say what could not be read.
        data: the message's bytes.
    Returns:
        (H, W, 3) uint8 and "bgr".
    Raises:
        FrameError: it is no picture, or one of depth.
    """
    if "compresseddepth" in description.lower():
        raise FrameError(f"a colour picture was expected; found compressed depth ({description!r}).")
    encoded = np.frombuffer(data, np.uint8)
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        picture = cv2.imdecode(encoded, flags) if encoded.size else None
    except cv2.error as exc:
        raise FrameError(f"{encoded.size} bytes of {description!r} cannot be decoded: {exc.err}") from exc
    if picture is None:
        raise FrameError(f"{encoded.size} bytes of {description!r} are no JPEG or PNG picture.")
    return picture, "bgr"


def _rows(data: Buffer, rows: int, step: int, row_bytes: int) -> Array:
    """(rows, row_bytes) uint8: a view that leaves out the padding; the last row may lack its own."""
    if step < row_bytes:
        raise FrameError(f"rows of at least {row_bytes} bytes were expected; found a step of {step}.")
    try:
        flat = np.frombuffer(data, np.uint8)
    except (TypeError, ValueError) as exc:
        raise FrameError(f"image data should be bytes; found {type(data).__name__}.") from exc
    flat.flags.writeable = False
    needed = (rows - 1) * step + row_bytes
    if flat.size < needed:
        raise FrameError(f"{needed} bytes were expected for {rows} rows of {step}; found {flat.size}.")
    if flat.size >= rows * step:
        return flat[: rows * step].reshape(rows, step)[:, :row_bytes]
    return np.lib.stride_tricks.as_strided(flat[:needed], (rows, row_bytes), (step, 1), writeable=False)


@dataclass(frozen=True, slots=True)
class Camera:
    """What a sensor_msgs/CameraInfo says, as plain numbers.

    Attributes:
        width, height: of the picture that it describes, in pixels.
        k: (9,) intrinsic matrix row by row; all zero: not calibrated.
        d: distortion, (0,) or more; unchanged by scaling.
        r: (9,) rectification.
        p: (12,) projection; its fourth column is -f times the stereo baseline, in pixels times metres.
        distortion_model: "plumb_bob", "rational_polynomial", ...
    """

    width: int
    height: int
    k: tuple[float, ...]
    d: tuple[float, ...] = ()
    r: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    p: tuple[float, ...] = (0.0,) * 12
    distortion_model: str = "plumb_bob"

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
        """From the message's fields, with binning and region of interest applied: the camera of the pictures delivered.

        Args:
            binning: (x, y) pixels that were added up; 0 means 1.
            roi: (x_offset, y_offset, width, height) in pixels of the whole sensor; width or height 0: all of it.
        """
        whole = cls(
            int(width),
            int(height),
            tuple(float(value) for value in k),
            tuple(float(value) for value in d),
            tuple(float(value) for value in r) or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
            tuple(float(value) for value in p) or (0.0,) * 12,
            distortion_model,
        )
        x, y, roi_width, roi_height = roi
        cut = whole._shifted(x, y, roi_width, roi_height) if roi_width and roi_height else whole
        bin_x, bin_y = max(1, binning[0]), max(1, binning[1])
        return cut if (bin_x, bin_y) == (1, 1) else cut.scaled(cut.width // bin_x, cut.height // bin_y)

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera for pictures of another size: fx, cx and the first row of P by sx; fy, cy and the second by sy.

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
        """Whether pictures of this size may come from this camera: the same aspect ratio within a pixel."""
        if self.width < 1 or self.height < 1:
            return (width, height) == (self.width, self.height)
        return abs(self.height * width / self.width - height) <= 1.0

    def intrinsics(self, *, rectified: bool = False) -> Intrinsics | None:
        """The pinhole camera: K, or P of rectified pictures; None where it was never calibrated.

        Raises:
            FrameError: the numbers are no camera.
        """
        fx, fy, cx, cy = (
            (self.p[0], self.p[5], self.p[2], self.p[6]) if rectified else (self.k[0], self.k[4], self.k[2], self.k[5])
        )
        if fx == 0 and fy == 0:
            return None
        if not all(math.isfinite(value) for value in (fx, fy, cx, cy)) or fx <= 0 or fy <= 0:
            raise FrameError(f"camera_info holds no camera: fx={fx}, fy={fy}, cx={cx}, cy={cy}. Calibrate the camera again.")
        return Intrinsics(fx, fy, cx, cy)

    def _shifted(self, x: int, y: int, width: int, height: int) -> Camera:
        k, p = list(self.k), list(self.p)
        k[2], k[5] = k[2] - x, k[5] - y
        p[2], p[6] = p[2] - x, p[6] - y
        return replace(self, width=width, height=height, k=tuple(k), p=tuple(p))
