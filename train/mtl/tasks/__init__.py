"""Kinds of tasks in training: what differs between labels, depth, normals and kinds that are added.

`head_of` gives the object that knows all about the training of a task's kind; `edge_mtl.tasks.kind_of` gives its other half.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Placement, Specs, TaskSpec, kind_of, ordered
from mtl.tasks.boxes import BoxesHead
from mtl.tasks.depth import DepthHead
from mtl.tasks.frame_class import ClassHead
from mtl.tasks.head import Column, DenseHead, Head, HeadOptions, LossTerms
from mtl.tasks.labels import LabelsHead
from mtl.tasks.normals import NormalsHead

if TYPE_CHECKING:
    from mtl.settings import ExportSettings

__all__ = [
    "HEADS",
    "Column",
    "DenseHead",
    "Head",
    "HeadOptions",
    "LossTerms",
    "bundled_tasks",
    "chosen_tasks",
    "head_of",
    "output_names",
    "register",
]

_HEADS: dict[str, Head[Any, Any]] = {}
HEADS: Mapping[str, Head[Any, Any]] = MappingProxyType(_HEADS)
"""Every head by the name of its kind; `register` adds one."""

ENTRY_POINTS = "mtl.heads"
"""Distributions name heads of their own in this group of entry points; each is an instance of `Head`."""

_ANY_SIZE = (32, 32)
"""Names of outputs do not depend on the size."""


def register(head: Head[Any, Any]) -> None:
    """Add a head. Raises ValueError where another one has its kind."""
    if head.kind in _HEADS and _HEADS[head.kind] is not head:
        raise ValueError(f"there is a head for the kind {head.kind!r} already: {type(_HEADS[head.kind]).__name__}")
    _HEADS[head.kind] = head


def head_of(spec: TaskSpec) -> Head[Any, Any]:
    """The head of a task. Raises BuildError where its kind has none."""
    if spec.kind not in _HEADS:
        for point in entry_points(group=ENTRY_POINTS):
            register(point.load())
    if spec.kind not in _HEADS:
        raise BuildError(
            f"{spec.name} is of the kind {spec.kind!r}, which cannot be trained: heads are known for {', '.join(_HEADS)}. "
            "Install what brings that head, or leave the task out of model.tasks"
        )
    return _HEADS[spec.kind]


def chosen_tasks(specs: Specs, names: Iterable[str]) -> dict[str, TaskSpec]:
    """Some tasks of a data set, in the order of reports, whatever the order of `names`.

    Raises:
        BuildError: a name that is none of them, or occurs twice, or no name.
    """
    wanted = list(names)
    if not wanted or not set(wanted) <= set(specs) or len(set(wanted)) != len(wanted):
        raise BuildError(f"tasks are {wanted}: expected some of {', '.join(specs)}, each at most once")
    return {name: spec for name, spec in ordered(specs).items() if name in wanted}


def bundled_tasks(specs: Specs, export: ExportSettings) -> dict[str, TaskSpec]:
    """Tasks as the manifest of a bundle describes them: those that were trained, with what settings of the export decide.

    Raises:
        ValueError: settings of a task that is not there or not of their kind, or that a manifest cannot say.
    """
    for name in export.boxes:
        if name not in specs or specs[name].kind != BoxesHead.kind:
            known = ", ".join(one for one, spec in specs.items() if spec.kind == BoxesHead.kind) or "none here"
            raise ValueError(f"export.boxes.{name} is not a task of boxes: they are {known}")
    try:
        return {name: head_of(spec).bundled(spec, export) for name, spec in specs.items()}
    except ValueError as exc:
        raise ValueError(f"export.boxes: {exc}") from exc


def output_names(specs: Specs, placement: Placement) -> dict[str, tuple[str, ...]]:
    """By task, the names of its outputs in a graph of either placement."""
    return {name: tuple(kind_of(spec).outputs(spec, _ANY_SIZE, placement)) for name, spec in specs.items()}


for _head in (LabelsHead(), DepthHead(), NormalsHead(), BoxesHead(), ClassHead()):
    register(_head)
