"""The names of what streets hold: 19 classes of pixels, 3 of drivable area, 4 of lanes, 10 of objects, and kinds of frames.

Pixels: the train ids of Cityscapes (Cordts et al. 2016, arXiv:1604.01685). The rest: BDD100K (Yu et al. 2020,
arXiv:1805.04687), whose names and order `mtl.datasets.bdd100k` has for real frames, too.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, get_args

import numpy as np

__all__ = [
    "CLASS_NAMES", "DRIVABLE_CLASSES", "LANE_CLASSES", "OBJECT_CLASSES", "PALETTE", "SCENES", "TIMES", "VOID", "WEATHERS",
    "Drivable", "Label", "Scene", "Time", "Weather",
]  # fmt: skip

VOID = 255


class Label(IntEnum):
    """Class of a pixel."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    WALL = 3
    FENCE = 4
    POLE = 5
    TRAFFIC_LIGHT = 6
    TRAFFIC_SIGN = 7
    VEGETATION = 8
    TERRAIN = 9
    SKY = 10
    PERSON = 11
    RIDER = 12
    CAR = 13
    TRUCK = 14
    BUS = 15
    TRAIN = 16
    MOTORCYCLE = 17
    BICYCLE = 18


CLASS_NAMES = tuple(label.name.lower().replace("_", " ") for label in Label)

PALETTE = np.array(
    [
        [128, 64, 128], [244, 35, 232], [70, 70, 70], [102, 102, 156], [190, 153, 153], [153, 153, 153], [250, 170, 30],
        [220, 220, 0], [107, 142, 35], [152, 251, 152], [70, 130, 180], [220, 20, 60], [255, 0, 0], [0, 0, 142], [0, 0, 70],
        [0, 60, 100], [0, 80, 100], [0, 0, 230], [119, 11, 32],
    ],
    np.uint8,
)  # fmt: skip
"""The colours of Cityscapes."""


class Drivable(IntEnum):
    """Of the road: the lane of the car up to what blocks it, lanes beside it in its direction, and all else."""

    DIRECT = 0
    ALTERNATIVE = 1
    BACKGROUND = 2


DRIVABLE_CLASSES = tuple(one.name.lower() for one in Drivable)
LANE_CLASSES = ("background", "line", "crosswalk", "curb")

OBJECT_CLASSES = (
    "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "traffic light", "traffic sign",
)  # fmt: skip

Scene = Literal["city street", "highway", "residential"]
Weather = Literal["clear", "overcast", "rainy", "foggy"]
Time = Literal["daytime", "dawn/dusk", "night"]
SCENES: tuple[Scene, ...] = get_args(Scene)
WEATHERS: tuple[Weather, ...] = get_args(Weather)
TIMES: tuple[Time, ...] = get_args(Time)
