"""Frames and their geometry: validation, letterbox, colour order, intrinsics. The only home of pre-processing.

Knows pixels and pinhole cameras; knows nothing about networks' outputs or runtimes. Pixel centres have integer
coordinates, as in OpenCV and ROS: resizing by s maps x to (x + 0.5) s - 0.5. See docs/decisions/0002.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_mtl import opencv
from edge_mtl.errors import FrameError
from edge_mtl.image import OUTPUT_STRIDE
from edge_mtl.image.bit_depth import OnRemark, to_8_bits
from edge_mtl.numbers import is_number

if TYPE_CHECKING:
    from edge_mtl.manifest import InputSpec

__all__ = [
    "MAX_SIDE",
    "OUTPUT_STRIDE",
    "Channels",
    "Intrinsics",
    "Letterbox",
    "check_frame",
    "letterbox",
    "letterbox_image",
    "prepare",
    "prepare_pixels",
    "prepare_planes",
    "supersampling",
]

cv2 = opencv.require()  # Engine and all geometry come this way: what is wrong with OpenCV is told here, with its repair

Array = np.ndarray
Channels = Literal["rgb", "bgr"]

MAX_SIDE = 16384
"""Longest side of a frame, in pixels."""

_SHORTEST_PX, _LONGEST_PX = 0.01, 1e6


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole camera in pixels: focal lengths and principal point, pixel centres at integers, no distortion."""

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if not all(map(is_number, self.as_tuple())):
            raise FrameError(f"intrinsics should be finite; found {self.as_tuple()}")
        if self.fx <= 0 or self.fy <= 0:
            raise FrameError(f"focal lengths should be positive pixels; found fx={self.fx}, fy={self.fy}")
        if min(self.fx, self.fy) < _SHORTEST_PX or max(map(abs, self.as_tuple())) > _LONGEST_PX:
            raise FrameError(
                f"focal lengths should be {_SHORTEST_PX} to {_LONGEST_PX:.0f} pixels and the principal point within as many; "
                f"found {self.as_tuple()}"
            )

    @classmethod
    def of(cls, value: Intrinsics | Sequence[float] | Array) -> Intrinsics:
        """From (fx, fy, cx, cy) or a 3x3 camera matrix.

        Raises:
            FrameError: anything else, a skewed camera, or values that are no camera.
        """
        if isinstance(value, Intrinsics):
            return value
        try:
            given = np.asarray(value, np.float64)
        except (TypeError, ValueError) as exc:
            raise FrameError(f"intrinsics should be (fx, fy, cx, cy) or a 3x3 matrix; found {value!r}") from exc
        if given.shape == (4,):
            return cls(*(float(entry) for entry in given))
        if given.shape == (3, 3):
            if given[0, 1] != 0 or given[1, 0] != 0 or list(given[2]) != [0, 0, 1]:
                raise FrameError(f"a camera matrix should be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; found {given.tolist()}")
            return cls(float(given[0, 0]), float(given[1, 1]), float(given[0, 2]), float(given[1, 2]))
        raise FrameError(f"intrinsics should be (fx, fy, cx, cy) or a 3x3 matrix; found shape {given.shape}")

    def __iter__(self) -> Iterator[float]:
        return iter(self.as_tuple())

    def as_tuple(self) -> tuple[float, float, float, float]:
        """(fx, fy, cx, cy)."""
        return self.fx, self.fy, self.cx, self.cy

    def matrix(self) -> Array:
        """(3, 3) float64 camera matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a frame lies in the network's input. All sizes are (height, width) in pixels.

    Attributes:
        frame: size of the frame.
        network: size of the network's input.
        content: size of the frame inside it; multiples of OUTPUT_STRIDE, so the two scales differ by a pixel or two.
        top, left: corner of the content, multiples of OUTPUT_STRIDE. Everything else is black.
    """

    frame: tuple[int, int]
    network: tuple[int, int]
    content: tuple[int, int]
    top: int
    left: int

    @property
    def scales(self) -> tuple[float, float]:
        """Network pixels per frame pixel, (vertical, horizontal)."""
        return self.content[0] / self.frame[0], self.content[1] / self.frame[1]

    @property
    def fills_network(self) -> bool:
        """Whether there are no bars."""
        return self.content == self.network

    @property
    def rows(self) -> slice:
        """Rows of the content in the network's input."""
        return slice(self.top, self.top + self.content[0])

    @property
    def columns(self) -> slice:
        """Columns of the content in the network's input."""
        return slice(self.left, self.left + self.content[1])

    def to_network(self, camera: Intrinsics) -> Intrinsics:
        """The camera of the frame as a camera of the network's input."""
        sy, sx = self.scales
        return Intrinsics(
            camera.fx * sx, camera.fy * sy, (camera.cx + 0.5) * sx - 0.5 + self.left, (camera.cy + 0.5) * sy - 0.5 + self.top
        )

    def to_frame(self, camera: Intrinsics) -> Intrinsics:
        """The camera of the network's input as a camera of the frame: the inverse of `to_network`."""
        sy, sx = self.scales
        return Intrinsics(
            camera.fx / sx, camera.fy / sy, (camera.cx - self.left + 0.5) / sx - 0.5, (camera.cy - self.top + 0.5) / sy - 0.5
        )


@lru_cache(maxsize=64)
def letterbox(frame: tuple[int, int], network: tuple[int, int]) -> Letterbox:
    """Fit a frame into the network's input: one scale, centred, both to the nearest OUTPUT_STRIDE.

    Args:
        frame, network: (height, width) in pixels; `network` is a multiple of OUTPUT_STRIDE.
    """
    scale = min(network[0] / frame[0], network[1] / frame[1])
    content = tuple(
        min(max(round(side * scale / OUTPUT_STRIDE), 1) * OUTPUT_STRIDE, limit)
        for side, limit in zip(frame, network, strict=True)
    )
    top, left = ((limit - side) // (2 * OUTPUT_STRIDE) * OUTPUT_STRIDE for side, limit in zip(content, network, strict=True))
    return Letterbox(frame, network, (content[0], content[1]), top, left)


def check_frame(frame: Any, *, scaled: bool = True, on_remark: OnRemark | None = warnings.warn) -> Array:
    """The frame if it is (H, W, 3) uint8; strided and read-only arrays are fine. uint16 is scaled to uint8, its full range.

    Args:
        scaled: False leaves uint16 as it is, for those who look at a frame that was predicted on, and so scaled, before.
        on_remark: called where the values of uint16 speak against that range; see `to_8_bits`.
    Raises:
        FrameError: what is wrong with it and how to put it right.
    """
    if not isinstance(frame, np.ndarray):
        raise FrameError(
            f"a frame should be a NumPy array (H, W, 3) uint8; found {type(frame).__name__}. Convert it with numpy.asarray."
        )
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise FrameError(f"a frame should have the shape (H, W, 3); found {frame.shape}. {_shape_advice(frame)}")
    wide = frame.dtype.newbyteorder("=") == np.uint16
    if frame.dtype != np.uint8 and not wide:
        raise FrameError(f"a frame should be uint8, 0..255, or uint16; found {frame.dtype}. {_dtype_advice(frame)}")
    frame = np.asarray(frame)
    height, width = frame.shape[:2]
    if height == 0 or width == 0:
        raise FrameError(f"a frame should have pixels; found shape {frame.shape}. Check that the camera or file delivered one.")
    if max(height, width) > MAX_SIDE:
        raise FrameError(f"a frame should be at most {MAX_SIDE} pixels a side; found {frame.shape}. Resize or tile it first.")
    return to_8_bits(frame, on_remark=on_remark) if wide and scaled else frame


def prepare(frame: Array, box: Letterbox, out: Array, *, channels: Channels = "rgb") -> None:
    """Letterbox a checked frame into the input of a graph of either placement: bytes for "graph", float planes for "host"."""
    (prepare_pixels if out.dtype == np.uint8 else prepare_planes)(frame, box, out, channels=channels)


def prepare_planes(frame: Array, box: Letterbox, planes: Array, *, channels: Channels = "rgb") -> None:
    """Letterbox a checked frame into float planes, 0..255 and not normalised: the input of "host" graphs.

    Args:
        frame: (H, W, 3) uint8, colours in the order of `channels`.
        planes: (3, Hn, Wn) float32, contiguous; filled, RGB.
    """
    colours = cv2.split(_resized(frame, box.content))
    for plane, colour in zip(planes, colours if channels == "rgb" else reversed(colours), strict=True):
        np.copyto(plane[box.rows, box.columns], colour)
    if not box.fills_network:
        _blacken_bars(planes.transpose(1, 2, 0), box)


def prepare_pixels(frame: Array, box: Letterbox, pixels: Array, *, channels: Channels = "rgb") -> None:
    """Letterbox a checked frame into pixels: the input of "graph" graphs.

    Args:
        frame: (H, W, 3) uint8, colours in the order of `channels`.
        pixels: (Hn, Wn, 3) uint8, contiguous; filled, RGB.
    """
    content = _resized(frame, box.content)
    if channels == "bgr":
        content = cv2.cvtColor(content, cv2.COLOR_BGR2RGB)
    np.copyto(pixels[box.rows, box.columns], content)
    if not box.fills_network:
        _blacken_bars(pixels, box)


def letterbox_image(image: Array, size: InputSpec) -> Array:
    """(H, W, 3) uint8 RGB of the network's size: what the network sees of `image`, (H, W, 3) uint8 RGB, at run time."""
    network = (size.height, size.width)
    if image.shape[:2] == network:
        return image
    pixels = np.zeros((*network, 3), np.uint8)
    prepare_pixels(image, letterbox((image.shape[0], image.shape[1]), network), pixels)
    return pixels


def supersampling(frame: tuple[int, int], content: tuple[int, int]) -> int:
    """Samples a pixel and axis when a frame is resized to `content`: 1, or 2 or 4 where it is that much larger."""
    shrink = min(frame[0] / content[0], frame[1] / content[1])
    return 1 if shrink < 2 else 2 if shrink < 4 else 4


def _resized(frame: Array, size: tuple[int, int]) -> Array:
    """(h, w, 3) uint8: bilinear; averaged over 2x2 or 4x4 samples a pixel where the frame is that much larger."""
    row, pixel, colour = frame.strides
    if colour != 1 or pixel != 3 or row < 3 * frame.shape[1]:
        frame = np.ascontiguousarray(frame)
    if frame.shape[:2] == size:
        return frame
    factor = supersampling((frame.shape[0], frame.shape[1]), size)
    height, width = size
    resized = cv2.resize(frame, (width * factor, height * factor), interpolation=cv2.INTER_LINEAR)
    return resized if factor == 1 else cv2.resize(resized, (width, height), interpolation=cv2.INTER_AREA)


def _blacken_bars(pixels: Array, box: Letterbox) -> None:
    pixels[: box.top] = 0
    pixels[box.rows.stop :] = 0
    pixels[:, : box.left] = 0
    pixels[:, box.columns.stop :] = 0


def _shape_advice(frame: Array) -> str:
    if frame.ndim == 2:
        return "Make a grey image RGB with cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)."
    if frame.ndim == 3 and frame.shape[2] == 4:
        return "Drop the alpha channel with frame[:, :, :3]."
    if frame.ndim == 3 and frame.shape[0] == 3:
        return "Put the colours last with frame.transpose(1, 2, 0)."
    if frame.ndim == 4:
        return "Pass one frame at a time: frames[0], or Engine.stream(frames)."
    return "Pass one colour image."


def _dtype_advice(frame: Array) -> str:
    if frame.dtype.kind == "f":
        return "Convert 0..1 with (frame * 255).round().astype(numpy.uint8), 0..255 with frame.astype(numpy.uint8)."
    return "Convert it to 0..255 and frame.astype(numpy.uint8)."
