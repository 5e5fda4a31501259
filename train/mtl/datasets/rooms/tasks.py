"""The tasks that rooms have exact truths of: three dense ones, and boxes and the kind of room where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs, TaskSpec
from edge_mtl.tasks.boxes import BoxesSpec
from edge_mtl.tasks.frame_class import ClassSpec

from .instances import OBJECT_CLASSES, SCENE_CLASSES

__all__ = ["OBJECTS", "ROOM_TASKS", "SCENE", "chosen"]

OBJECTS, SCENE = "objects", "scene"

_MORE: tuple[TaskSpec, ...] = (BoxesSpec(OBJECTS, "boxes", OBJECT_CLASSES), ClassSpec(SCENE, "class", SCENE_CLASSES))

ROOM_TASKS: Specs = MappingProxyType({**NYU_TASKS, **{spec.name: spec for spec in _MORE}})
"""All of them, in the order of reports."""


def chosen(names: Sequence[str]) -> Specs:
    """Those tasks, in the order of reports; the three dense ones where none is named. Raises BuildError for other names."""
    if not set(names) <= set(ROOM_TASKS) or len(set(names)) != len(names):
        raise BuildError(f"data.tasks should be some of {', '.join(ROOM_TASKS)}, each once, found {list(names)}")
    return {name: spec for name, spec in ROOM_TASKS.items() if name in (names or NYU_TASKS)}
