"""A data set with as many classes as a test wants: blocks of random classes, whose names, colours and mean are its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mtl.datasets.data_set import DataSet, Split
from mtl.datasets.frame import Frame
from mtl.datasets.sources import data_sets, register
from mtl.settings import DataSettings, RunSettings, Stage

from edge_mtl.tasks import VOID, Specs, read_tasks
from tests.synthetic_data import SIZE, short_settings

__all__ = ["Blocks", "block_colours", "block_names", "block_settings"]

_FIRST = {"train": 0, "val": 1_000, "test": 2_000}
_BLOCK = 16


def block_names(count: int) -> list[str]:
    """Names in several scripts; the last one is left out of the mean."""
    return ["стена", "Tür", "椅子", 'the "[bed]"', *(f"part {number}" for number in range(4, count - 1)), "other"]


def block_colours(count: int) -> list[list[int]]:
    """Colours of their own, all different."""
    return [[index, 255 - index, 40 + (index * 37) % 200] for index in range(count)]


def block_settings(folder: Any, task: str, count: int, **changes: str) -> RunSettings:
    """Settings of a short run for a task of `count` classes and depth; `changes` as on the command line."""
    name = f"blocks-{task}-{count}"
    if name not in data_sets():
        register(Blocks(name, task, count))
    quick = {
        "model.backbone": "test_convnext",
        "stages": f"[{{height={SIZE[0]}, width={SIZE[1]}, steps=40, batch=4}}]",
        "data.train": "16",
        "loop.evaluate_every": "40",
        "optimizer.lr": "0.003",
        "ema.decay": "0",
    }
    return short_settings(folder, name, (task, "depth"), {**quick, **changes})


@dataclass(frozen=True)
class Blocks(DataSet):
    """See the module.

    Attributes:
        name: of the data set.
        task: name of the task of labels.
        count: of classes.
    """

    name: str  # type: ignore[misc]
    task: str
    count: int
    frames = "blocks"

    def title(self, data: DataSettings) -> str:
        return "blocks of classes"

    def licence(self, data: DataSettings) -> str:
        return "drawn by a test"

    def redistributable(self, data: DataSettings) -> bool:
        return True

    def tasks(self, data: DataSettings) -> Specs:
        return specs(self.task, self.count)

    def train_frames(self, data: DataSettings, stage: Stage) -> BlocksRequest:
        return BlocksRequest(self.task, self.count, "train", stage.train or data.train)

    def held_out_frames(self, data: DataSettings, split: Split) -> BlocksRequest:
        return BlocksRequest(self.task, self.count, split, data.test if split == "test" else data.validation)

    def train_count(self, data: DataSettings) -> int:
        return data.train

    def counts(self, data: DataSettings) -> str:
        return f"{data.train} training"


@dataclass(frozen=True)
class BlocksRequest:
    """Frames of one split."""

    task: str
    classes: int
    split: Split
    frames: int

    @property
    def tasks(self) -> Specs:
        return specs(self.task, self.classes)

    def open(self, *, workers: int = 1, progress: bool = False) -> BlocksRequest:
        return self

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> Frame:
        """Blocks of 16 pixels whose red is the class; a row of void."""
        random = np.random.default_rng(_FIRST[self.split] + index)
        blocks = random.integers(0, self.classes, (SIZE[0] // _BLOCK, SIZE[1] // _BLOCK)).astype(np.uint8)
        label = blocks.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)
        share = label / (self.classes - 1)
        image = np.stack([255 * share, 255 * (1 - share), 255 * np.abs(2 * share - 1)], axis=-1).astype(np.uint8)
        truth = label.copy()
        truth[0] = VOID
        depth = (1.0 + 4.0 * share).astype(np.float32)
        return Frame(image, {self.task: truth, "depth": depth}, (88.0, 88.0, (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2))


def specs(task: str, count: int) -> Specs:
    """The task of labels and depth."""
    labels = {"kind": "labels", "classes": block_names(count), "colours": block_colours(count), "ignore_in_mean": ["other"]}
    return read_tasks({task: labels, "depth": {"kind": "depth"}})
