"""Which frames feed which stage and split: a small picklable description that opens the rooms where they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_mtl.errors import BuildError
from mtl.data.frame import Frame
from mtl.data.rooms import RoomsDataset
from mtl.settings import DataSettings, Stage

__all__ = ["RoomFrames", "RoomsRequest", "Split", "stage_rooms", "validation_rooms"]

Split = Literal["train", "val", "test"]


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
        return Frame(room.image, room.label, room.depth_m, room.normals, room.intrinsics)


def stage_rooms(data: DataSettings, stage: Stage) -> RoomsRequest:
    """The training rooms of a stage."""
    height, width = stage.render_height or data.height, stage.render_width or data.width
    return RoomsRequest(data.root, "train", stage.train or data.train, height, width)


def validation_rooms(data: DataSettings, split: Split) -> RoomsRequest:
    """The validation or test rooms, at the data's own size."""
    return RoomsRequest(data.root, split, data.test if split == "test" else data.validation, data.height, data.width)
