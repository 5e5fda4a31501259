"""The samples of real frames that `other_cameras.py` measures on: which files of which repositories, with which cameras.

A row of the table is one or more samples. Every camera is the one that the repository states, in the file that is named here.
Knows names and numbers; what is done with them is in `camera_folders.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import numpy as np
from depth_conversion import metres_of_disparity, metres_of_rotated, metres_of_units
from sample_origins import Origin

from edge_mtl.image.frames import Intrinsics

__all__ = ["MOST", "ROWS", "Beside", "Row", "Sample"]

MOST = 40
"""Frames of a sample at most: longer sequences are thinned evenly."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Depth of another camera than the image's: its lens, and how far to its right the image's camera is."""

    camera: Intrinsics
    right_m: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Frames of one camera in one repository.

    Attributes:
        device: the camera, in words.
        camera: of the images as they are stored.
        image, depth: paths in the repository, with {} for the name of a frame.
        frames: names; empty for all files of `depth`, in the order of their names.
        metres: stored depth as (H, W) float32 metres, 0 unknown.
        beside: where depth is of another camera.
        size: (H, W) that images are reduced to, where that of their depth is smaller.
    """

    origin: Origin
    device: str
    camera: Intrinsics
    image: str
    depth: str
    frames: tuple[str, ...] = ()
    metres: Callable[[np.ndarray], np.ndarray] = field(default=partial(metres_of_units, unit_m=0.001))
    beside: Beside | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    title: str
    samples: tuple[Sample, ...]


_OFFICE = Sample(
    Origin("ardaduz", "deep-video-mvs", "fa14288f149c5af7b2a49092f729f5c4f44517ba"),
    "HoloLens, time of flight",
    Intrinsics(495.5677570, 495.4819626, 269.5028972, 169.1941121),  # 000/K.txt
    "sample-data/hololens-dataset/000/images/{}.png",
    "sample-data/hololens-dataset/000/depth/{}.png",
)
_KITCHEN = Sample(
    Origin("andyzeng", "tsdf-fusion-python", "3f22a940d90f684145b1f29b1feaa92e09eb1db6"),
    "Kinect v1 of 7-Scenes",
    Intrinsics(525.0, 525.0, 320.0, 240.0),  # OpenNI's default: the repository states the infrared camera only
    "data/{}.color.jpg",
    "data/{}.depth.png",
    tuple(f"frame-{number:06d}" for number in range(1000)),
    beside=Beside(Intrinsics(585.0, 585.0, 320.0, 240.0), right_m=0.025),  # data/camera-intrinsics.txt
)
_CLASSROOM = Sample(
    Origin(
        "rahulgautam21",
        "Robot-Localization-using-Experience-Based-Localization-and-Visual-Odometry",
        "05bdd8a3b14762629b7c33c2852e29cf5e04d032",
    ),
    "Kinect for Xbox 360",
    Intrinsics(532.5694580, 531.5410767, 319.5, 239.5),  # calibration.yaml
    "mono/{}.png",
    "depth/{}.png",
    tuple(str(number) for number in range(1, 23)),
)
_FLAT = Sample(
    Origin("felixchenfy", "ros_detect_planes_from_depth_img", "4d0037cdc67ab919545d4b8c2f14394a1e5eb405"),
    "RealSense D4xx",
    Intrinsics(617.25, 617.5486450, 317.3921204, 245.9801941),  # data/cam_params_realsense.json
    "data/color/{}.png",
    "data/depth/{}.png",
    tuple(f"{number:06d}" for number in range(10)),
)
_SUN = Origin("GuardianWang", "sunrgbd-toy", "feca6a0f7ba3ba6d5d2cb6b85992f4e440e6b7f4")
_SINGLE = (
    Sample(
        Origin("nvidia-isaac", "nvblox", "7c76f90749aa26b89faeca2044fbdcabd910d0a6"),
        "Xtion, of 3DMatch",
        Intrinsics(570.342205, 570.342205, 320.0, 240.0),  # camera-intrinsics.txt
        "nvblox/tests/data/3dmatch/seq-01/{}.color.png",
        "nvblox/tests/data/3dmatch/seq-01/{}.depth.png",
        ("frame-000000", "frame-000116", "frame-000422"),
    ),
    Sample(
        Origin("facebookresearch", "TemporallyConsistentDepth", "be85390cf5db72a996bebba3d9f34439f1576196"),
        "Structure Sensor, of ScanNet",
        Intrinsics(1170.187988, 1170.187988, 647.75, 483.75),  # intrinsic/intrinsic_color.txt
        "test_data/color/{}.jpg",
        "test_data/depth/{}.png",
        ("0", "10"),
        size=(480, 640),
    ),
    Sample(
        _SUN,
        "Kinect v2, of SUN RGB-D",
        Intrinsics(529.5, 529.5, 365.0, 265.0),  # intrinsics.txt beside
        "images/2014-12-18_11-31-54_260595134347/image/{}.jpg",
        "images/2014-12-18_11-31-54_260595134347/depth/{}.png",
        ("0000144",),
        metres=metres_of_rotated,
    ),
    Sample(
        _SUN,
        "Kinect v1, of SUN RGB-D",
        Intrinsics(520.532, 520.7444, 277.9258, 215.115),  # intrinsics.txt beside
        "images/img_0063/image/{}.jpg",
        "images/img_0063/depth/{}_abs.png",
        ("img_0063",),
        metres=metres_of_rotated,
    ),
    Sample(
        Origin("suho0515", "RGBD-tutorial", "5a55c6d3aa6dbead36042739f09866b0ac29aa35"),
        "Kinect v1, of TUM freiburg2",
        Intrinsics(520.9, 521.0, 325.1, 249.7),  # parameters.txt
        "data/rgb/{}.png",
        "data/depth/{}.png",
        ("1", "50"),
        metres=partial(metres_of_units, unit_m=1 / 5000),
    ),
    Sample(
        Origin("scikit-image", "scikit-image", "cd0a3d22b9f359f05618d75d5c7a29b91b4951ca"),
        "DSLR, of Middlebury's stereo 2014",
        Intrinsics(994.978, 994.978, 311.193, 254.877),  # the docstring of skimage.data.stereo_motorcycle
        "src/_skimage2/data/{}_left.png",
        "src/_skimage2/data/{}_disp.npz",
        ("motorcycle",),
        metres=partial(metres_of_disparity, focal_px=994.978, baseline_m=0.193001, offset_px=31.086),
    ),
)

ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "office": Row("office", (_OFFICE,)),
        "kitchen": Row("kitchen", (_KITCHEN,)),
        "classroom": Row("classroom", (_CLASSROOM,)),
        "single-views": Row("single views", _SINGLE),
        "flat": Row("flat from near the floor", (_FLAT,)),
    }
)
"""By the name of the folder."""
