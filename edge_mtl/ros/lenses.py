"""Whether images may be taken for a pinhole camera's, as camera_info describes the lens, and images with the lens undone.

The one judgement of the node and of bags. Imports nothing of ROS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.image.distortion import Lens, LensModel, Rectification, rectification
from edge_mtl.ros.cameras import NO_ROTATION, Camera

__all__ = ["MODELS", "LensFault", "lens_fault", "lens_of", "rectified"]

MODELS: Mapping[str, LensModel] = {
    "plumb_bob": "radius",
    "rational_polynomial": "radius",
    "equidistant": "angle",
    "fisheye": "angle",
}
"""By the names of sensor_msgs/distortion_models.hpp, and one that drivers of fisheyes use."""
_NO_LENS = ("", "none")
_TOLERATED = 0.01
"""Of the image's longer side: about one cell of the maps of a network that is 384 pixels wide (OUTPUT_STRIDE of them), so that
what is displaced less is not displaced in what the network answers."""
_CACHED = 4
"""Cameras whose judgement and tables are kept; tables take 6 bytes a pixel."""


@dataclass(frozen=True, slots=True)
class LensFault:
    """Why images may not be taken for a pinhole camera's.

    Attributes:
        text: a sentence without its full stop.
        can_be_undone: whether `rectified` works.
    """

    text: str
    can_be_undone: bool


def lens_of(camera: Camera) -> Lens | None:
    """The lens of unrectified images; None where it does not distort, or the camera is not calibrated.

    Raises:
        FrameError: a model that is not known, or coefficients that it does not have.
    """
    pinhole = camera.intrinsics()
    bent = any(camera.d)
    if pinhole is None or (camera.distortion_model in _NO_LENS and not bent):
        return None
    model = MODELS.get(camera.distortion_model)
    if model is None:
        raise FrameError(
            f"camera_info has the distortion model {camera.distortion_model!r}, which is none of {', '.join(MODELS)}."
        )
    if model == "radius" and not bent:
        return None
    return Lens(pinhole, model, camera.d or (0.0,) * 4)


@lru_cache(maxsize=_CACHED)
def lens_fault(camera: Camera) -> LensFault | None:
    """What is wrong with taking unrectified images of this camera for a pinhole camera's; None where nothing is to speak of."""
    try:
        lens = lens_of(camera)
    except FrameError as exc:
        return LensFault(f"the lens is not known: {str(exc).rstrip('.')}", False)
    if lens is None:
        return None
    moved_px = lens.displacement_px((camera.height, camera.width))
    if moved_px <= _TOLERATED * max(camera.height, camera.width):
        return None
    if moved_px == float("inf"):
        what = "shows at its corners what no pinhole camera can"
    else:
        what = f"displaces the worst corner by {moved_px:.0f} px"
    return LensFault(f"the lens ({camera.distortion_model}) {what}", True)


@lru_cache(maxsize=_CACHED)
def rectified(camera: Camera) -> tuple[Camera, Rectification | None]:
    """The camera of rectified images, and what makes them of unrectified ones; None where nothing is to be done.

    The images are those of image_proc, of R and P of the camera_info, or of K where P is zero; zoomed in where those would
    have pixels that the lens does not show.

    Raises:
        FrameError: the lens is not known, or cannot be undone.
    """
    lens = lens_of(camera)
    if lens is None:
        return camera, None
    target = camera.intrinsics(rectified=True)
    turned = target is not None and any(camera.r)  # all zero where nobody filled it in
    undone = rectification(
        lens,
        (camera.height, camera.width),
        wanted=target or lens.camera,
        rotation=np.reshape(camera.r, (3, 3)) if turned else None,
    )
    made, p = undone.camera, camera.p
    straight = replace(
        camera,
        k=(made.fx, 0.0, made.cx, 0.0, made.fy, made.cy, 0.0, 0.0, 1.0),
        d=(0.0,) * 5,
        r=NO_ROTATION,
        p=(made.fx, 0.0, made.cx, p[3] * undone.zoom, 0.0, made.fy, made.cy, p[7] * undone.zoom, 0.0, 0.0, 1.0, p[11]),
        distortion_model="plumb_bob",
    )
    return straight, undone
