"""The tasks that rooms have exact truths of: three dense ones, and boxes and the kind of room where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs, TaskSpec
from edge_mtl.tasks.boxes import BoxesSpec
from edge_mtl.tasks.frame_class import ClassSpec

from .instances import OBJECT_CLASSES, SCENE_CLASSES

if TYPE_CHECKING:
    from mtl.settings import DataSettings

__all__ = ["OBJECTS", "ROOM_TASKS", "SCENE", "chosen", "problem_of", "with_more"]

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


def problem_of(names: Sequence[str], known: Specs = ROOM_TASKS) -> str | None:
    """What `chosen` says against them; None where it takes them."""
    try:
        chosen(names, known)
    except BuildError as exc:
        return str(exc)
    return None


def with_more(data: DataSettings, wanted: Sequence[str], known: Specs = ROOM_TASKS) -> DataSettings:
    """The settings with those of the `known` tasks in `data.tasks` that are `wanted` too; themselves where there are none."""
    named = data.tasks or tuple(NYU_TASKS)
    more = [task for task in known if task in wanted and task not in named]
    return replace(data, tasks=(*named, *more)) if more else data
