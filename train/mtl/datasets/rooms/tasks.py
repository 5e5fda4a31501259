"""The tasks that rooms have exact truths of: three dense ones, and boxes and the kind of room where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs, TaskSpec
from edge_mtl.tasks.boxes import BoxesSpec
from edge_mtl.tasks.frame_class import ClassSpec

from .instances import OBJECT_CLASSES, SCENE_CLASSES

__all__ = ["OBJECTS", "ROOM_TASKS", "SCENE", "chosen", "with_more"]

OBJECTS, SCENE = "objects", "scene"

_MORE: tuple[TaskSpec, ...] = (BoxesSpec(OBJECTS, "boxes", OBJECT_CLASSES), ClassSpec(SCENE, "class", SCENE_CLASSES))

ROOM_TASKS: Specs = MappingProxyType({**NYU_TASKS, **{spec.name: spec for spec in _MORE}})
"""All of them, in the order of reports."""


def chosen(names: Sequence[str], known: Specs = ROOM_TASKS) -> Specs:
    """Those of the `known` tasks, in their order; the three dense ones where none is named. Raises BuildError for others."""
    wrong = [name for name in names if name not in known or names.count(name) > 1]
    if wrong:
        raise BuildError(f"data.tasks should be some of {', '.join(known)}, each once, found {wrong}")
    return {name: spec for name, spec in known.items() if name in (names or NYU_TASKS)}


def with_more(given: Sequence[str], wanted: Sequence[str], known: Specs = ROOM_TASKS) -> tuple[str, ...]:
    """`data.tasks` with those of the `known` tasks that are `wanted` too; as given where there are none."""
    named = tuple(given) or tuple(NYU_TASKS)
    more = [task for task in known if task in wanted and task not in named]
    return (*named, *more) if more else tuple(given)
