"""The tasks that streets have exact truths of, and these truths."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np

from edge_mtl.tasks import KINDS, Specs, TaskSpec
from edge_mtl.tasks.boxes import BoxTruth
from mtl.datasets.bdd100k.lane_bits import lane_classes
from mtl.datasets.worlds.objects import SeenObjects, least_seen

from .classes import CLASS_NAMES, DRIVABLE_CLASSES, LANE_CLASSES, OBJECT_CLASSES, PALETTE, SCENES, TIMES, WEATHERS
from .render import StreetSample
from .road import FAR_M

__all__ = ["DEFAULT_TASKS", "DEPTH", "DRIVABLE", "LANE", "NORMALS", "OBJECTS", "SCENE", "SEGMENTATION", "STREET_TASKS", "TIME",
           "WEATHER", "object_truth", "truth_of"]  # fmt: skip

OBJECTS, DRIVABLE, LANE, DEPTH, SEGMENTATION, NORMALS = "objects", "drivable", "lane", "depth", "segmentation", "normals"
SCENE, WEATHER, TIME = "scene", "weather", "timeofday"

_NEAR_M = 0.5
_TOLERANCE_PX = 2
"""How far a line may be off, in pixels of the image: lines far away are one or two pixels wide."""

_DRIVABLE_COLOURS = ([219, 94, 86], [86, 211, 219], [0, 0, 0])
_LANE_COLOURS = ([0, 0, 0], [255, 230, 60], [255, 140, 40], [120, 220, 120])


def _specs() -> dict[str, TaskSpec]:
    described: dict[str, tuple[str, dict[str, Any]]] = {
        OBJECTS: ("boxes", {"classes": list(OBJECT_CLASSES)}),
        DRIVABLE: ("labels", {"classes": list(DRIVABLE_CLASSES), "colours": [*_DRIVABLE_COLOURS],
                              "ignore_in_mean": ["background"]}),
        LANE: ("labels", {"classes": list(LANE_CLASSES), "colours": [*_LANE_COLOURS], "ignore_in_mean": ["background"],
                          "tolerance_px": _TOLERANCE_PX}),
        DEPTH: ("depth", {"range_m": [_NEAR_M, FAR_M]}),
        SEGMENTATION: ("labels", {"classes": list(CLASS_NAMES), "colours": PALETTE.tolist()}),
        NORMALS: ("normals", {}),
        SCENE: ("class", {"classes": list(SCENES)}),
        WEATHER: ("class", {"classes": list(WEATHERS)}),
        TIME: ("class", {"classes": list(TIMES)}),
    }  # fmt: skip
    return {name: KINDS[kind].spec(name, entry) for name, (kind, entry) in described.items()}


STREET_TASKS: Specs = MappingProxyType(_specs())
"""All of them, in the order of reports."""
DEFAULT_TASKS = (OBJECTS, DRIVABLE, LANE, DEPTH)
"""Of frames where `data.tasks` names none."""

_LEAST_SHARE = 0.25
"""An object of which less is seen is there and not judged, as one that is smaller than `_LEAST_SIDE` of that of rooms."""
_LEAST_SIDE = 0.65


def truth_of(task: str, street: StreetSample) -> Any:
    """What is true of a frame, in the form of the task's kind (`mtl.datasets.frame.Frame`)."""
    return _TRUTHS[task](street)


def object_truth(objects: SeenObjects, size: tuple[int, int]) -> BoxTruth:
    """The boxes of what is seen. Those that are hardly seen, or are very small, are there and not judged (`BoxTruth.crowd`)."""
    least_px, least_side = least_seen(size)
    sides = (objects.visible[:, 2:] - objects.visible[:, :2]).min(axis=1, initial=np.inf)
    small = (sides < _LEAST_SIDE * least_side) | (objects.pixels < _LEAST_SIDE**2 * least_px)
    return BoxTruth(objects.visible, objects.classes, small | (objects.share < _LEAST_SHARE))


_TRUTHS: dict[str, Callable[[StreetSample], Any]] = {
    OBJECTS: lambda street: object_truth(street.objects, street.label.shape),
    DRIVABLE: lambda street: street.drivable,
    LANE: lambda street: lane_classes(street.lanes),
    DEPTH: lambda street: street.depth_m,
    SEGMENTATION: lambda street: street.label,
    NORMALS: lambda street: street.normals,
    SCENE: lambda street: street.scene,
    WEATHER: lambda street: street.weather,
    TIME: lambda street: street.time,
}
