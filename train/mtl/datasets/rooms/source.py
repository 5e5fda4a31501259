"""Rendered rooms as a data set: NYU-13 classes, depth and normals of every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs
from mtl.datasets.data_set import DataSet, Split
from mtl.datasets.frame import Frame

from .dataset import SPLIT_FIRST_SEED, RoomsDataset, holds_rooms
from .render import RENDERER_VERSION, RoomSample, render_room

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = ["RenderedRooms", "RoomFrames", "Rooms", "RoomsRequest"]


class Rooms(DataSet):
    """See the module. `data.train`, `data.validation` and `data.test` of them, at the size of the data or of a stage."""

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
        return NYU_TASKS

    def train_frames(self, data: DataSettings, stage: Stage) -> RoomsRequest:
        height, width = stage.render_height or data.height, stage.render_width or data.width
        return RoomsRequest(data.root, "train", stage.train or data.train, height, width)

    def held_out_frames(self, data: DataSettings, split: Split) -> RoomsRequest:
        return RoomsRequest(data.root, split, data.test if split == "test" else data.validation, data.height, data.width)

    def train_count(self, data: DataSettings) -> int:
        return data.train

    def counts(self, data: DataSettings) -> str:
        return f"{data.train} training, {data.validation} validation, {data.test} test"

    def problem(self, data: DataSettings) -> str | None:
        if data.validation_from_train:
            return 'data.validation_from_train is for data.kind "nyuv2"; rooms have data.validation of their own'
        return None


@dataclass(frozen=True, slots=True)
class RoomsRequest:
    """Rooms by description. Opening renders what is missing; worker processes then open the same files."""

    root: str
    split: Split
    count: int
    height: int
    width: int

    def open(self, *, workers: int = 1, progress: bool = False) -> RoomFrames:
        """The rooms, rendered if need be. Raises BuildError when they cannot be rendered or stored."""
        try:
            rooms = RoomsDataset(
                Path(self.root),
                self.split,
                self.count,
                height=self.height,
                width=self.width,
                workers=workers,
                progress=progress,
            )
        except (OSError, ValueError) as exc:
            raise BuildError(
                f"the {self.split} rooms at {self.height}x{self.width} could not be made in {self.root}: {exc}. "
                "Choose another folder with --data.root"
            ) from exc
        return RoomFrames(rooms)


class RoomFrames:
    """Rendered rooms as `Frame`s."""

    tasks: Specs = NYU_TASKS

    def __init__(self, rooms: RoomsDataset) -> None:
        self._rooms = rooms

    def __len__(self) -> int:
        return len(self._rooms)

    def __getitem__(self, index: int) -> Frame:
        try:
            room = self._rooms[index]
        except (OSError, ValueError) as exc:
            raise BuildError(
                f"room {index} in {self._rooms.folder} cannot be read: {exc}. Remove its shard, run again"
            ) from exc
        return _frame(room)


class RenderedRooms:
    """The first `count` test rooms of a size, each rendered when it is asked for; nothing is written to disk."""

    tasks: Specs = NYU_TASKS

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self._count, self._size = count, size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < self._count:
            raise IndexError(f"room {index} of {self._count}")
        return _frame(render_room(SPLIT_FIRST_SEED["test"] + index, *self._size))


def _frame(room: RoomSample) -> Frame:
    return Frame(room.image, dict(zip(NYU_TASKS, (room.label, room.depth_m, room.normals), strict=True)), room.intrinsics)
