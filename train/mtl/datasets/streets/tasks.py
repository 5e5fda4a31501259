"""The tasks that streets have exact truths of."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from edge_mtl.tasks import KINDS, Specs, TaskSpec

from .classes import CLASS_NAMES, DRIVABLE_CLASSES, LANE_CLASSES, OBJECT_CLASSES, PALETTE, SCENES, TIMES, WEATHERS
from .road import FAR_M

__all__ = ["DEFAULT_TASKS", "DEPTH", "DRIVABLE", "LANE", "NORMALS", "OBJECTS", "SCENE", "SEGMENTATION", "STREET_TASKS", "TIME",
           "WEATHER"]  # fmt: skip

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
