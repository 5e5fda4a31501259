"""Which frames feed which stage and split: a small picklable description that opens the frames where they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from edge_mtl.errors import BuildError
from mtl.datasets.frame import Frame, FrameSource
from mtl.datasets.nyuv2 import NyuRequest
from mtl.datasets.rooms import RoomsDataset
from mtl.settings import DataSettings, Stage

__all__ = [
    "FrameRequest",
    "RoomFrames",
    "RoomsRequest",
    "Split",
    "held_out_frames",
    "stage_rooms",
    "train_frames",
    "validation_rooms",
]

Split = Literal["train", "val", "test"]


class FrameRequest(Protocol):
    """A picklable description of frames."""

    def open(self, *, workers: int = 1, progress: bool = False) -> FrameSource:
        """The frames, made first by `workers` processes where they can be made. Raises BuildError when there are none."""


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


def train_frames(data: DataSettings, stage: Stage) -> FrameRequest:
    """The training frames of a stage.

    Rooms: `stage.train` or `data.train` of them, at the stage's rendering size. NYUv2: all that are not set aside for
    validation, or the first `stage.train` of them. How many there are is the length of what `open` returns.
    """
    if data.kind == "nyuv2":
        return NyuRequest(data.folder, "train", aside=data.validation_from_train, take="rest", first=stage.train)
    height, width = stage.render_height or data.height, stage.render_width or data.width
    return RoomsRequest(data.folder, "train", stage.train or data.train, height, width)


def held_out_frames(data: DataSettings, split: Split) -> FrameRequest:
    """The validation or test frames.

    Rooms: those of the split, at the data's own size. NYUv2: the 654 test frames for "test", and for "val" too unless
    `data.validation_from_train` sets training frames aside.
    """
    if data.kind == "nyuv2":
        if split == "val" and data.validation_from_train:
            return NyuRequest(data.folder, "train", aside=data.validation_from_train, take="aside")
        return NyuRequest(data.folder, "val")
    return RoomsRequest(data.folder, split, data.test if split == "test" else data.validation, data.height, data.width)


stage_rooms = train_frames
validation_rooms = held_out_frames
