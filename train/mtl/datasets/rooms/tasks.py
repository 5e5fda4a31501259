"""The tasks that rooms have exact truths of: three dense ones, and boxes and the kind of room where they are asked for."""

from __future__ import annotations

from types import MappingProxyType

from edge_mtl.tasks import NYU_TASKS, Specs, TaskSpec
from edge_mtl.tasks.boxes import BoxesSpec
from edge_mtl.tasks.frame_class import ClassSpec

from .instances import OBJECT_CLASSES, SCENE_CLASSES

__all__ = ["OBJECTS", "ROOM_TASKS", "SCENE"]

OBJECTS, SCENE = "objects", "scene"

_MORE: tuple[TaskSpec, ...] = (BoxesSpec(OBJECTS, "boxes", OBJECT_CLASSES), ClassSpec(SCENE, "class", SCENE_CLASSES))

ROOM_TASKS: Specs = MappingProxyType({**NYU_TASKS, **{spec.name: spec for spec in _MORE}})
"""All of them, in the order of reports."""
