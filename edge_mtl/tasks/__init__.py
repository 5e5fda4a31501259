"""Kinds of tasks and the tasks of a bundle: what differs between the kinds, and those that are added.

A bundle names its tasks; each has a kind, and `kind_of` gives the object that knows all about it. Importing this package
loads no runtime, no torch and no OpenCV.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from edge_mtl.image import VOID
from edge_mtl.tasks.boxes import Boxes, BoxesKind, BoxesSpec, BoxTruth
from edge_mtl.tasks.depth import Depth, DepthMap
from edge_mtl.tasks.frame_class import ClassScores, ClassSpec, FrameClass
from edge_mtl.tasks.kind import BudgetItem, DenseKind, Kind, Measure, Metric, Placement, Result, TaskSpec, Topic, check_name
from edge_mtl.tasks.labels import LabelMap, Labels, LabelsSpec
from edge_mtl.tasks.normals import NormalMap, Normals
from edge_mtl.tasks.nyu13 import NYU13_CLASSES, NYU13_PALETTE

__all__ = [
    "KINDS",
    "NYU13_CLASSES",
    "NYU13_PALETTE",
    "NYU_TASKS",
    "VOID",
    "BoxTruth",
    "Boxes",
    "BoxesSpec",
    "BudgetItem",
    "ClassScores",
    "ClassSpec",
    "DenseKind",
    "DepthMap",
    "Kind",
    "LabelMap",
    "LabelsSpec",
    "Measure",
    "Metric",
    "NormalMap",
    "Placement",
    "Result",
    "Specs",
    "TaskSpec",
    "Topic",
    "describe_tasks",
    "graph_outputs",
    "headlines",
    "kind_of",
    "load_installed",
    "measure_names",
    "measure_of",
    "ordered",
    "read_tasks",
    "register",
    "remarks",
    "scoped",
    "truth_endings",
]

Specs = Mapping[str, TaskSpec]
"""The tasks of a bundle by name, in its order."""

_KINDS: dict[str, Kind[Any, Any]] = {}
KINDS: Mapping[str, Kind[Any, Any]] = MappingProxyType(_KINDS)
"""Every kind by name; `register` adds one."""

ENTRY_POINTS = "edge_mtl.kinds"
"""Distributions name kinds of their own in this group of entry points; each is an instance of `Kind`."""


def register(kind: Kind[Any, Any]) -> None:
    """Add a kind. Raises ValueError where another one has its name, or one of its measures or budgets."""
    if _KINDS.get(kind.name) is kind:
        return
    if kind.name in _KINDS:
        raise ValueError(f"there is a kind {kind.name!r} already: {type(_KINDS[kind.name]).__name__}")
    for other in _KINDS.values():
        if shared := _names(kind) & _names(other):
            raise ValueError(f"{', '.join(sorted(shared))} of the kind {kind.name!r} is taken by the kind {other.name!r}")
    _KINDS[kind.name] = kind


def kind_of(spec: TaskSpec) -> Kind[Any, Any]:
    """The kind of a task. Raises KeyError where it was not registered."""
    return _KINDS[spec.kind]


def graph_outputs(specs: Specs, size: tuple[int, int], place: Placement) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all outputs of a graph for `specs` whose input is `size` (height, width)."""
    found: dict[str, tuple[int, ...]] = {}
    for spec in specs.values():
        found |= kind_of(spec).outputs(spec, size, place)
    return found


def read_tasks(entries: Mapping[str, Any]) -> dict[str, TaskSpec]:
    """Tasks from the manifest's `tasks`. Entries without "kind" are of format 1, whose three names are their kinds.

    Raises:
        ValueError: an entry is not what its kind expects; the message names it.
    """
    if not entries:
        raise ValueError("tasks should describe at least one task; found none")
    found = {}
    for name, entry in entries.items():
        check_name(name)
        if not isinstance(entry, Mapping):
            raise ValueError(f"the task {name} should be an object; found {type(entry).__name__}")
        kind = entry.get("kind", _FORMAT_1.get(name))
        if kind not in _KINDS:
            load_installed()
        if kind not in _KINDS:
            raise ValueError(
                f"the task {name} is of the kind {kind!r}; this edge_mtl knows {', '.join(_KINDS)}. Install the kind"
            )
        found[name] = _KINDS[kind].spec(name, entry)
    return ordered(found)


def describe_tasks(specs: Specs) -> dict[str, dict[str, Any]]:
    """The manifest's `tasks`, format 2."""
    return {name: {"kind": spec.kind, **kind_of(spec).describe(spec)} for name, spec in specs.items()}


def ordered(specs: Specs) -> dict[str, TaskSpec]:
    """In the order of reports: by kind as registered, then as given."""
    order = {kind: place for place, kind in enumerate(_KINDS)}
    return dict(sorted(specs.items(), key=lambda item: order.get(item[1].kind, len(order))))


def scoped(specs: Specs, spec: TaskSpec, name: str) -> str:
    """The key of a measure or budget of `spec` in reports: its own name, or "task.name" where several tasks share the kind."""
    alone = sum(other.kind == spec.kind for other in specs.values()) == 1
    return name if alone else f"{spec.name}.{name}"


def measure_names(specs: Specs, *, agreement: bool = False) -> dict[str, Measure]:
    """The measures of several tasks by their keys in reports, against truth or against FP32's answers."""
    found = {}
    for spec in specs.values():
        kind = kind_of(spec)
        for measure in kind.agreements if agreement else kind.measures_of(spec):
            found[scoped(specs, spec, measure.name)] = measure
    return found


def measure_of(key: str) -> Measure | None:
    """The measure that a key in a report stands for, whatever its task; None where no kind has it."""
    name = key.rpartition(".")[2]
    found = (measure for kind in KINDS.values() for measure in (*kind.measures, *kind.agreements) if measure.name == name)
    return next(found, None)


def headlines(*reports: Mapping[str, float]) -> dict[str, Measure]:
    """The measures by key that tables show, as far as one of several reports has them, in the order of kinds."""
    every = {key: measure for report in reports for key in report if (measure := measure_of(key)) is not None}
    shown = [measure for kind in KINDS.values() for measure in (*kind.measures, *kind.agreements) if measure.headline]
    return {key: measure for measure in shown for key, found in every.items() if found is measure}


def remarks(specs: Specs) -> tuple[str, ...]:
    """What a reader of the measures of several tasks should know, in sentences: see `Kind.remarks`."""
    return tuple(remark for spec in specs.values() for remark in kind_of(spec).remarks(spec))


def truth_endings(specs: Specs) -> tuple[str, ...]:
    """Endings of the truth files of all tasks, so that they are not taken for frames."""
    return tuple(ending for spec in specs.values() for ending in kind_of(spec).truth_endings(spec))


def _names(kind: Kind[Any, Any]) -> set[str]:
    measures: Iterable[Measure] = (*kind.measures, *kind.agreements)
    return {measure.name for measure in measures} | {item.name for item in kind.budgets}


def load_installed() -> None:
    """Register the kinds of installed distributions; done by itself where a manifest or a budget names one."""
    for point in entry_points(group=ENTRY_POINTS):
        register(point.load())


for _kind in (Labels(), Depth(), Normals(), BoxesKind(), FrameClass()):
    register(_kind)

_FORMAT_1 = {"segmentation": "labels", "depth": "depth", "normals": "normals"}

NYU_TASKS: Specs = MappingProxyType(read_tasks({"segmentation": {}, "depth": {}, "normals": {}}))
"""The three tasks of the study: NYU-13 classes, metric depth, surface normals."""

SEGMENTATION, DEPTH, NORMALS = NYU_TASKS
TASK_NAMES = tuple(NYU_TASKS)
