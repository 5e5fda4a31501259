"""Every data set by name, and which frames feed which stage and split of a run: the one place where a data set is added."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.datasets.data_set import OPTIONS, DataSet, FrameRequest, Split
from mtl.datasets.disjoint import cannot_be_dealt, dealt
from mtl.datasets.frame import FrameSource
from mtl.datasets.mixture import Mixture

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = [
    "FrameRequest",
    "Split",
    "data_set",
    "data_sets",
    "data_tasks",
    "disjoint_problem",
    "held_out_frames",
    "register",
    "stand_in_frames",
    "stand_in_tasks",
    "stray_option",
    "train_frames",
]

_DATA_SETS: dict[str, DataSet] = {}

ENTRY_POINTS = "mtl.data_sets"
"""Distributions name data sets of their own in this group of entry points; each is an instance of `DataSet`."""


def register(one: DataSet) -> None:
    """Add a data set. Raises ValueError where another one has its name."""
    _register_own()
    if one.name in _DATA_SETS and _DATA_SETS[one.name] is not one:
        raise ValueError(f"there is a data set {one.name!r} already: {type(_DATA_SETS[one.name]).__name__}")
    _DATA_SETS[one.name] = one


def data_sets() -> Mapping[str, DataSet]:
    """Every data set so far by its name, which is `data.kind` in settings; `register` adds one."""
    _register_own()
    return MappingProxyType(_DATA_SETS)


def data_set(data: DataSettings) -> DataSet:
    """The data set that `data.kind` names, or the mixture of `data.sources`. Raises BuildError where one was not registered."""
    if data.sources:
        return Mixture(data, {name: _source(name, one) for name, one in data.sources.items()})
    _register_own()
    if data.kind not in _DATA_SETS:
        for point in entry_points(group=ENTRY_POINTS):
            register(point.load())
    if data.kind not in _DATA_SETS:
        raise BuildError(f"data.kind should be one of {', '.join(_DATA_SETS)}, found {data.kind!r}")
    return _DATA_SETS[data.kind]


def _source(name: str, data: DataSettings) -> DataSet:
    try:
        return data_set(data)
    except BuildError as exc:
        raise BuildError(f"data.sources.{name}: {exc}") from exc


def data_tasks(data: DataSettings) -> Specs:
    """What frames of a data set may have truths of. Raises BuildError where it describes tasks that cannot be."""
    try:
        return data_set(data).tasks(data)
    except ValueError as exc:
        raise BuildError(f"the data set {data.kind!r} describes its tasks wrongly: {exc}. Mend its description") from exc


def stray_option(data: DataSettings) -> str | None:
    """A setting that a data set has no use for, for an error message; None where there is none."""
    for known, one in data_set(data).parts(data):
        for option in OPTIONS:
            if getattr(one, option) and option not in known.options:
                heeding = ", ".join(name for name, other in data_sets().items() if option in other.options)
                return f"data.{option} is for {heeding}; {known.name} has no use for it"
    return next((f"data.{option} is for a single data set: give it to one of data.sources" for option in OPTIONS
                 if data.sources and getattr(data, option)), None)  # fmt: skip


def disjoint_problem(data: DataSettings) -> str | None:
    """What is wrong with `data.disjoint`, for an error message; None where all is well."""
    if data.sources and data.disjoint:
        return "data.disjoint is for a single data set: give it to one of data.sources"
    wanted = ((one.disjoint, known.tasks(one)) for known, one in data_set(data).parts(data) if one.disjoint)
    return next((problem for tasks, specs in wanted if (problem := cannot_be_dealt(tasks, specs)) is not None), None)


def train_frames(data: DataSettings, stage: Stage) -> FrameRequest:
    """The training frames of a stage; how many there are is the length of what `open` returns."""
    return dealt(data_set(data).train_frames(data, stage), data.disjoint)


def held_out_frames(data: DataSettings, split: Split) -> FrameRequest:
    """The validation or test frames."""
    return data_set(data).held_out_frames(data, split)


def stand_in_frames(count: int, size: tuple[int, int]) -> FrameSource:
    """Frames of a size (H, W) that may go anywhere, with truths, in place of images that may not: test rooms, rendered when
    they are asked for."""
    from mtl.datasets.rooms.source import RenderedRooms

    return RenderedRooms(count, size)


def stand_in_tasks() -> Specs:
    """What those frames have truths of."""
    from mtl.datasets.rooms.tasks import ROOM_TASKS

    return ROOM_TASKS


def _register_own() -> None:
    """Our own, when one is first asked for: rendering needs OpenCV, and reading settings does not."""
    from mtl.datasets.ade20k.source import Ade20k
    from mtl.datasets.bdd100k.source import Bdd100k
    from mtl.datasets.cityscapes import Cityscapes
    from mtl.datasets.coco.source import Coco
    from mtl.datasets.folder.source import Folder
    from mtl.datasets.imagenet.source import ImageNet
    from mtl.datasets.nyuv2.source import Nyuv2
    from mtl.datasets.rooms.source import Rooms
    from mtl.datasets.streets.source import Streets

    for kind in (Rooms, Streets, Nyuv2, Folder, Coco, Ade20k, ImageNet, Bdd100k, Cityscapes):
        _DATA_SETS.setdefault(kind.name, kind())
