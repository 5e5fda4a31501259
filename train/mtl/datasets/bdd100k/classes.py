"""The tasks of BDD100K, their classes, and what labels of both releases call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl.datasets.bdd100k.lane_bits import CATEGORIES, lane_class

__all__ = [
    "AREAS",
    "ATTRIBUTES",
    "BOXES",
    "DRIVABLE",
    "LANE",
    "MAPS",
    "OBJECTS",
    "PIXELS",
    "UNDEFINED",
    "area_class",
    "box_class",
    "lane_mark_class",
    "scalabel_edges",
]

Array = np.ndarray

OBJECTS, DRIVABLE, LANE, PIXELS = "objects", "drivable", "lane", "segmentation"
"""The names of the tasks where settings give no others."""

MAPS = (DRIVABLE, LANE, PIXELS)
"""Those of labels, in the order of reports."""

BOXES = (
    "pedestrian",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
    "traffic light",
    "traffic sign",
)
"""Of detection, in the official order."""

_ALSO = {"bike": "bicycle", "motor": "motorcycle", "person": "pedestrian", "caravan": "car", "van": "car"}
_IGNORED = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}
"""Nothing that is found there is right or wrong; of which class they are is the official evaluation's choice."""

AREAS: Mapping[str, tuple[str, ...]] = {
    DRIVABLE: ("direct", "alternative", "background"),
    PIXELS: (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
        "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
}  # fmt: skip
"""By the value of a pixel in the masks; 255 is void."""

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "weather": ("rainy", "snowy", "clear", "overcast", "partly cloudy", "foggy"),
    "scene": ("tunnel", "residential", "parking lot", "city street", "gas stations", "highway"),
    "timeofday": ("daytime", "night", "dawn/dusk"),
}
"""Of frames: the tasks of the kind "class", by the names and the values that labels have."""

UNDEFINED = ("undefined", "", None)
"""Values of attributes that say that none is known."""

_UNKNOWN_AREA = 255


def scalabel_edges(corners: Array) -> Array:
    """Boxes by the first and the last pixel that they hold -> by their edges, pixels' centres at whole numbers.

    A box of Scalabel's is x2 - x1 + 1 pixels wide.

    Args:
        corners: (N, 4) x1, y1, x2, y2.
    Returns:
        (N, 4) left, top, right, bottom.
    """
    return corners + np.array([-0.5, -0.5, 0.5, 0.5])


def box_class(category: Any) -> tuple[int, bool] | None:
    """The class of a box, and whether it is to be ignored; None for a category of no box."""
    if not isinstance(category, str):
        return None
    if category in _IGNORED:
        return BOXES.index(_IGNORED[category]), True
    name = _ALSO.get(category, category)
    return (BOXES.index(name), False) if name in BOXES else None


def area_class(task: str, category: Any, attributes: Mapping[str, Any]) -> int | None:
    """The class of an area of a task, 255 for one of no known class; None for a category of no such area.

    Drivable areas are "direct" and "alternative", in the release of 2018 "area/drivable", "area/alternative" and
    "area/unknown", or "drivable area" with an attribute.
    """
    if not isinstance(category, str):
        return None
    name = category
    if task == DRIVABLE:
        if category == "drivable area":
            name = str(attributes.get("areaType"))
            return AREAS[task].index(name) if name in AREAS[task][:2] else _UNKNOWN_AREA
        name = category.removeprefix("area/")
        if name == "unknown" and name != category:
            return _UNKNOWN_AREA
        name = "direct" if category == "area/drivable" else name
        return AREAS[task].index(name) if name in AREAS[task][:2] else None
    return AREAS[task].index(name) if name in AREAS[task] else None


def lane_mark_class(category: Any, attributes: Mapping[str, Any]) -> int | None:
    """The class of a lane mark in the task `lane`; None for a category of no lane mark.

    They are called by `CATEGORIES`, in the release of 2018 "lane/crosswalk" and so on, or "lane" with an attribute.
    """
    name = category
    if category == "lane":
        name = attributes.get("laneType", attributes.get("laneTypes"))
    elif isinstance(category, str):
        name = category.removeprefix("lane/")
    return lane_class(name) if isinstance(name, str) and name in CATEGORIES else None
