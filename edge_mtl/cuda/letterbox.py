"""Pre-processing on the GPU, for frames that already lie there: the letterbox of `edge_mtl.image.frames` as a small kernel.

Knows the kernel, its arguments and how frames on the GPU are checked; the geometry is that of `edge_mtl.image.frames`. The
kernel travels as PTX, which the driver of any GPU from sm_75 on compiles when it is loaded; `make ptx` makes it again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_mtl.cuda.arrays import DeviceArray, device_array
from edge_mtl.cuda.protocol import Cuda, Stream
from edge_mtl.errors import FrameError
from edge_mtl.image.frames import MAX_SIDE, Channels, Letterbox, supersampling

if TYPE_CHECKING:
    from edge_mtl.backends import TensorSpec

__all__ = ["DeviceFrame", "LetterboxKernel", "arguments", "check_device_frame"]

_BLOCK = (32, 8)
_NAME = "letterbox"


@dataclass(frozen=True, slots=True)
class DeviceFrame:
    """A frame on the GPU and where it goes in the network's input.

    Attributes:
        array: (H, W, 3) uint8; pixels of 3 bytes, rows at any distance.
        channels: order of its colours.
    """

    array: DeviceArray
    box: Letterbox
    channels: Channels


def check_device_frame(value: Any) -> DeviceArray:
    """The frame if it is (H, W, 3) uint8 on a GPU with packed pixels.

    Raises:
        FrameError: what is wrong with it.
    """
    array = device_array(value)
    if len(array.shape) != 3 or array.shape[2] != 3:
        raise FrameError(f"a frame on the GPU should have the shape (H, W, 3); found {array.shape}.")
    if array.dtype != np.uint8:
        raise FrameError(f"a frame on the GPU should be uint8, 0..255; found {array.dtype}.")
    height, width = array.shape[:2]
    if not 0 < min(height, width) <= max(height, width) <= MAX_SIDE:
        raise FrameError(f"a frame should have 1 to {MAX_SIDE} pixels a side; found {array.shape}.")
    row, pixel, colour = array.strides
    if (pixel, colour) != (3, 1) or (height > 1 and row < 3 * width):
        raise FrameError(
            f"a frame on the GPU should have packed pixels, rows from top to bottom; found strides {array.strides}."
        )
    return array


class LetterboxKernel:
    """The kernel on one GPU. Made and called within `Cuda.active()`."""

    def __init__(self, cuda: Cuda) -> None:
        """Load it. Raises CudaError where the driver does not take the PTX."""
        self._module = cuda.module(resources.files("edge_mtl.cuda").joinpath("letterbox.ptx").read_bytes())
        self._kernel = self._module.kernel(_NAME)

    def __call__(self, frame: DeviceFrame, target: int, spec: TensorSpec, stream: Stream) -> None:
        """Queue the kernel.

        Args:
            target: address of the network's input.
            spec: of that: (1, H, W, 3) uint8 or (1, 3, H, W) float32.
        """
        height, width = frame.box.network
        columns, rows = _BLOCK
        grid = (-(-width // columns), -(-height // rows))
        self._kernel.launch(grid, _BLOCK, arguments(frame, target, planar=spec.dtype == np.float32), stream)

    def free(self) -> None:
        """Unload it."""
        self._module.free()


def arguments(frame: DeviceFrame, target: int, *, planar: bool) -> Sequence[Any]:
    """The kernel's arguments, in its order."""
    box, array = frame.box, frame.array
    numbers = (
        *box.frame,
        *box.network,
        *box.content,
        box.top,
        box.left,
        supersampling(box.frame, box.content),
        int(frame.channels == "bgr"),
        int(planar),
    )
    pitch = array.strides[0]
    return (
        ctypes.c_void_p(array.address),
        ctypes.c_void_p(target),
        ctypes.c_longlong(pitch),
        *(ctypes.c_int(number) for number in numbers),
    )
