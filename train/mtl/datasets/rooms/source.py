"""Rendered rooms as a data set: NYU-13 classes, depth and normals of every pixel; boxes and the kind of room on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.tasks import NYU_TASKS, Specs
from edge_mtl.tasks.boxes import BoxTruth
from mtl.datasets.data_set import DataSet, Split
from mtl.datasets.frame import Frame
from mtl.datasets.task_choice import chosen, problem_of, with_more
from mtl.datasets.worlds.cache import SPLIT_FIRST_SEED
from mtl.datasets.worlds.frames import RenderedFrames, made_in

from .dataset import RoomsDataset, holds_rooms
from .render import RENDERER_VERSION, RoomSample, render_room
from .tasks import OBJECTS, ROOM_TASKS, SCENE

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = ["RenderedRooms", "RoomFrames", "Rooms", "RoomsRequest"]


class Rooms(DataSet):
    """See the module. `data.train`, `data.validation` and `data.test` of them, at the size of the data or of a stage.

    Frames have truths of `data.tasks`, of the three dense tasks where it names none.
    """

    name = "rooms"
    frames: ClassVar[str] = "procedural rooms"
    renders: ClassVar[bool] = True

    def holds(self, root: Path) -> bool:
        return holds_rooms(root)

    def title(self, data: DataSettings) -> str:
        return f"procedural rooms, renderer {RENDERER_VERSION}"

    def licence(self, data: DataSettings) -> str:
        return "rendered by this package from seeds; no third-party data"

    def redistributable(self, data: DataSettings) -> bool:
        return True

    def tasks(self, data: DataSettings) -> Specs:
        return chosen(data.tasks, ROOM_TASKS, default=NYU_TASKS)

    def with_truths(self, data: DataSettings, tasks: Sequence[str]) -> DataSettings:
        return with_more(data, tasks, ROOM_TASKS, default=NYU_TASKS)

    def train_frames(self, data: DataSettings, stage: Stage) -> RoomsRequest:
        height, width = stage.render_height or data.height, stage.render_width or data.width
        return RoomsRequest(data.root, "train", stage.train or data.train, height, width, data.tasks)

    def held_out_frames(self, data: DataSettings, split: Split) -> RoomsRequest:
        count = data.test if split == "test" else data.validation
        return RoomsRequest(data.root, split, count, data.height, data.width, data.tasks)

    def train_count(self, data: DataSettings) -> int:
        return data.train

    def counts(self, data: DataSettings) -> str:
        return f"{data.train} training, {data.validation} validation, {data.test} test"

    def problem(self, data: DataSettings) -> str | None:
        if data.validation_from_train:
            return 'data.validation_from_train is for data.kind "nyuv2"; rooms have data.validation of their own'
        return problem_of(data.tasks, ROOM_TASKS, default=NYU_TASKS)


@dataclass(frozen=True, slots=True)
class RoomsRequest:
    """Rooms by description. Opening renders what is missing; worker processes then open the same files.

    Attributes:
        tasks: what frames have truths of; none named stands for the three dense tasks.
    """

    root: str
    split: Split
    count: int
    height: int
    width: int
    tasks: tuple[str, ...] = ()

    def open(self, *, workers: int = 1, progress: bool = False) -> RoomFrames:
        """The rooms, rendered if need be. Raises BuildError when they cannot be rendered or stored, and for unknown tasks."""
        tasks = chosen(self.tasks, ROOM_TASKS, default=NYU_TASKS)
        with made_in(self, "rooms"):
            rooms = RoomsDataset(
                Path(self.root),
                self.split,
                self.count,
                height=self.height,
                width=self.width,
                workers=workers,
                progress=progress,
                objects=OBJECTS in tasks or SCENE in tasks,
            )
        return RoomFrames(rooms, tasks)


class RoomFrames(RenderedFrames[RoomSample]):
    """Rendered rooms as `Frame`s that have truths of `tasks`."""

    def __init__(self, rooms: RoomsDataset, tasks: Specs) -> None:
        super().__init__(rooms, tasks, "room", _frame)


class RenderedRooms:
    """The first `count` test rooms of a size, each rendered when it is asked for; nothing is written to disk."""

    tasks: Specs = ROOM_TASKS

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self._count, self._size = count, size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < self._count:
            raise IndexError(f"room {index} of {self._count}")
        return _frame(render_room(SPLIT_FIRST_SEED["test"] + index, *self._size), self.tasks)


def _frame(room: RoomSample, tasks: Specs) -> Frame:
    truths: dict[str, Any] = dict(zip(NYU_TASKS, (room.label, room.depth_m, room.normals), strict=True))
    if room.objects is not None:
        found = room.objects
        truths |= {OBJECTS: BoxTruth(found.visible, found.classes, np.zeros(len(found), bool)), SCENE: room.scene}
    return Frame(room.image, {task: truths[task] for task in tasks}, room.intrinsics)
