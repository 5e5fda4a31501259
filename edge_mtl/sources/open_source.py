"""From what a user types to a source of frames: an image, a folder, a video, a camera or a ROS bag."""

from __future__ import annotations

from pathlib import Path

from edge_mtl.errors import FrameError
from edge_mtl.image.bit_depth import FULL_BITS
from edge_mtl.sources.bags import BAG_SUFFIXES, bag_source, is_bag
from edge_mtl.sources.cameras import camera_source
from edge_mtl.sources.folders import dataset_source, folder_source
from edge_mtl.sources.frame_source import FrameSource
from edge_mtl.sources.images import IMAGE_SUFFIXES, image_source
from edge_mtl.sources.videos import VIDEO_SUFFIXES, video_source

__all__ = ["is_camera", "open_source"]

_LONGEST_NAME = 255
"""Of a file: longer ones cannot be looked for."""


def open_source(
    source: str | Path,
    *,
    topic: str | None = None,
    camera_info: str | None = None,
    rectified: bool = False,
    every: int = 1,
    dataset: bool = False,
    bits: int = FULL_BITS,
) -> FrameSource:
    """Open what `source` names: an image, a folder of images, a video, a ROS 1 or 2 bag, `camera:N` or just `N`.

    Args:
        topic: of a bag's images; needed where it has several.
        camera_info: topic of a bag's camera; by default the one beside the images.
        rectified: the images of a bag are rectified: their camera is P of the camera_info, not K.
        every: take only every n-th frame of a video or bag.
        dataset: of a folder also the images below it; of a labelled data set its train split.
        bits: of images with 16 bits a channel: how many the camera fills; see `edge_mtl.image.bit_depth`.
    Raises:
        FrameError: there is no such thing, or nothing in it can be read.
        BackendUnavailable: a bag, and the package rosbags is not installed.
    """
    if is_camera(source):
        return camera_source(str(source))
    path = Path(source)
    if is_bag(path):
        return bag_source(path, topic=topic, camera_info=camera_info, rectified=rectified, every=every, bits=bits)
    if path.is_dir():
        return dataset_source(path, bits=bits) if dataset else folder_source(path, bits=bits)
    if not path.is_file():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise FrameError(f"{path} {what}: expected an image, a folder of images, a video, a ROS bag or camera:N.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return video_source(path, every=every)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return image_source(path, bits=bits)
    raise FrameError(
        f"{path} is neither an image ({' '.join(IMAGE_SUFFIXES)}), nor a video ({' '.join(VIDEO_SUFFIXES)}), "
        f"nor a bag ({' '.join(BAG_SUFFIXES)}): convert it, or rename it if only its suffix is unusual."
    )


def is_camera(source: str | Path) -> bool:
    """Whether `source` names a camera: camera:N, or a number that is not a file."""
    text = str(source)
    return text.startswith("camera:") or (text.isdecimal() and (len(text) > _LONGEST_NAME or not Path(text).exists()))
