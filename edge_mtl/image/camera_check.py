"""Whether a camera may be that of an image: its focal lengths and principal point against the image's size.

The one place that says so, for `Engine.predict`, the command line, bags, the ROS 2 node, labelled frames and data sets. That
the numbers are finite and focal lengths positive, `Intrinsics` itself checks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from edge_mtl.errors import FrameError
from edge_mtl.image.frames import Intrinsics

__all__ = ["FARTHEST", "NARROWEST", "ODD", "WIDEST", "camera_fault", "camera_oddity", "check_camera"]

WIDEST, NARROWEST = 0.1, 20.0
"""Focal lengths, in longer sides of the image: 157 to 3 degrees across."""
ODD, FARTHEST = 0.15, 0.45
"""How far from the middle a principal point may be, in the image's sides along each axis: farther than ODD it is said, farther
than FARTHEST it is refused. The camera of an image twice as large has it at a corner."""


def check_camera(camera: Intrinsics, size: tuple[int, int], *, on_remark: Callable[[str], None] = warnings.warn) -> Intrinsics:
    """The camera of an image of `size` (height, width) pixels.

    Args:
        on_remark: called with a sentence where it looks like the camera of another image.
    Raises:
        FrameError: it is none of images of this size.
    """
    fault = camera_fault(camera, size)
    if fault:
        raise FrameError(fault)
    oddity = camera_oddity(camera, size)
    if oddity:
        on_remark(oddity)
    return camera


def camera_fault(camera: Intrinsics, size: tuple[int, int]) -> str:
    """Why no camera takes images of `size` (height, width) with these numbers; "" where one may."""
    longer = max(size)
    for name, focal in (("fx", camera.fx), ("fy", camera.fy)):
        if not WIDEST * longer <= focal <= NARROWEST * longer:
            return (
                f"{name} should be {WIDEST * longer:g} to {NARROWEST * longer:g} pixels for an image of {_named(size)}; found "
                f"{focal:g}. Give the camera of images of this size, in their pixels"
            )
    if max(_off_centre(camera, size)) > FARTHEST:
        return (
            f"the principal point should lie within {FARTHEST:.0%} of a side of the middle of an image of {_named(size)}; "
            f"found cx={camera.cx:g}, cy={camera.cy:g}. {_guess(camera)}"
        )
    return ""


def camera_oddity(camera: Intrinsics, size: tuple[int, int]) -> str:
    """What is unusual about a camera without a fault; "" where nothing is."""
    if max(_off_centre(camera, size)) <= ODD:
        return ""
    return (
        f"the principal point cx={camera.cx:g}, cy={camera.cy:g} is more than {ODD:.0%} of a side from the middle of an image "
        f"of {_named(size)}, so that depth may be off by a factor. {_guess(camera)}"
    )


def _off_centre(camera: Intrinsics, size: tuple[int, int]) -> tuple[float, float]:
    """Distance of the principal point from the middle along both axes, in sides."""
    height, width = size
    return abs((camera.cx + 0.5) / width - 0.5), abs((camera.cy + 0.5) / height - 0.5)


def _guess(camera: Intrinsics) -> str:
    height, width = round(2 * camera.cy + 1), round(2 * camera.cx + 1)
    if min(height, width) < 1:
        return "Give the camera of this image"
    return f"They fit an image of about {_named((height, width))}: if the frames were resized, scale the camera as they were"


def _named(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
