"""A data set of coloured rectangles whose tasks a test chooses: classes, coarser classes, depth, edges, boxes and what the
background is, exact and quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mtl.config import apply_overrides, parse_config
from mtl.datasets.data_set import DataSet, Split
from mtl.datasets.frame import Frame
from mtl.datasets.sources import data_sets, register
from mtl.settings import DataSettings, RunSettings, Stage

from edge_mtl.tasks import BoxTruth, Specs, read_tasks

__all__ = ["ENTRIES", "SIZE", "Rectangles", "RectanglesRequest", "rectangle_settings", "short_settings"]

SIZE = (64, 96)
_CLASSES = 13
_FIRST = {"train": 0, "val": 1_000, "test": 2_000}

ENTRIES: dict[str, dict[str, Any]] = {
    "things": {"kind": "labels", "classes": [f"thing {number}" for number in range(_CLASSES)]},
    "groups": {"kind": "labels", "classes": [f"group {number}" for number in range(4)]},
    "depth": {"kind": "depth"},
    "edges": {"kind": "edges"},
    "objects": {"kind": "boxes", "classes": [f"object {number}" for number in range(4)]},
    "scene": {"kind": "class", "classes": [f"scene {number}" for number in range(4)]},
}
"""Manifest entries of the tasks that there can be."""


def rectangle_settings(folder: Any, tasks: Sequence[str], **changes: str) -> RunSettings:
    """Settings of a run of three steps on rectangles with these tasks; `changes` as on the command line."""
    name = "rectangles-" + "-".join(tasks)
    if name not in data_sets():
        register(Rectangles(name, tasks))
    return short_settings(folder, name, tasks, changes)


def short_settings(folder: Any, data_set: str, tasks: Sequence[str], changes: Mapping[str, str]) -> RunSettings:
    """Settings of a run of three steps on a data set that was registered."""
    fixed = {
        "folder": f"'{folder}'",
        "data.kind": f"'{data_set}'",
        "data.height": str(SIZE[0]),
        "data.width": str(SIZE[1]),
        "data.train": "4",
        "data.validation": "2",
        "data.test": "3",
        "stages": f"[{{height={SIZE[0]}, width={SIZE[1]}, steps=3, batch=2}}]",
        "model.tasks": str(list(tasks)),
        "model.width": "8",
        "model.backbone": "pvt_v2_b0",
        "loop.device": "cpu",
        "loop.threads": "1",
        "loop.loader_workers": "0",
        "loop.precision": "fp32",
        "loop.pictures": "1",
        "export.calibration": "2",
        "export.evaluation": "2",
        "export.golden": "1",
    }
    return parse_config(apply_overrides({}, {**fixed, **changes}))


@dataclass(frozen=True)
class Rectangles(DataSet):
    """See the module.

    Attributes:
        name: of the data set.
        names: of its tasks, keys of `ENTRIES`.
        free: whether its images may be passed on.
    """

    name: str  # type: ignore[misc]
    names: Sequence[str]
    free: bool = True
    frames = "rectangles"

    def title(self, data: DataSettings) -> str:
        return "coloured rectangles"

    def licence(self, data: DataSettings) -> str:
        return "drawn by a test"

    def redistributable(self, data: DataSettings) -> bool:
        return self.free

    def tasks(self, data: DataSettings) -> Specs:
        return read_tasks({name: ENTRIES[name] for name in self.names})

    def train_frames(self, data: DataSettings, stage: Stage) -> RectanglesRequest:
        return RectanglesRequest(tuple(self.names), "train", stage.train or data.train)

    def held_out_frames(self, data: DataSettings, split: Split) -> RectanglesRequest:
        return RectanglesRequest(tuple(self.names), split, data.test if split == "test" else data.validation)

    def train_count(self, data: DataSettings) -> int:
        return data.train

    def counts(self, data: DataSettings) -> str:
        return f"{data.train} training"


@dataclass(frozen=True)
class RectanglesRequest:
    """Frames of one split. Frames whose number `lacking` divides have no truth of the last task (0: all have)."""

    names: tuple[str, ...]
    split: Split
    count: int
    lacking: int = 0

    @property
    def tasks(self) -> Specs:
        return read_tasks({name: ENTRIES[name] for name in self.names})

    def open(self, *, workers: int = 1, progress: bool = False) -> RectanglesRequest:
        return self

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Frame:
        rng = np.random.default_rng(_FIRST[self.split] + index)
        background = int(rng.integers(_CLASSES))
        label, owner = np.full(SIZE, background, np.uint8), np.full(SIZE, -1)
        drawn = []
        for number in range(6):
            top, left = rng.integers(0, SIZE[0] - 16), rng.integers(0, SIZE[1] - 16)
            value, high, wide = rng.integers(_CLASSES), rng.integers(12, 40), rng.integers(12, 40)
            label[top : top + high, left : left + wide] = value
            owner[top : top + high, left : left + wide] = number
            drawn.append((number, int(value), int(high * wide)))
        image = np.stack([20 * label, 250 - 18 * label, (label % 4) * 60], axis=-1).astype(np.uint8)
        every = {"things": label, "groups": label // 4, "depth": 1.0 + label.astype(np.float32) / 4, "edges": _edges(label)}
        every |= {"objects": _objects(owner, drawn), "scene": background // 4}
        truths = {name: every[name] for name in self.names}
        if self.lacking and index % self.lacking == 0:
            truths.pop(self.names[-1])
        return Frame(image, truths, (88.0, 88.0, (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2))


def _objects(owner: np.ndarray, drawn: Sequence[tuple[int, int, int]]) -> BoxTruth:
    """Boxes around those rectangles (number, class, pixels) of which half is seen in `owner`; the class is a group."""
    boxes, classes = [], []
    for number, value, pixels in drawn:
        rows, columns = np.nonzero(owner == number)
        if 2 * len(rows) >= pixels:
            boxes.append([columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5])
            classes.append(value // 4)
    return BoxTruth(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64), np.zeros(len(boxes), bool))


def _edges(label: np.ndarray) -> np.ndarray:
    """1 where a neighbour to the right or below is of another class."""
    edges = np.zeros(label.shape, np.uint8)
    edges[:, :-1] |= label[:, :-1] != label[:, 1:]
    edges[:-1] |= label[:-1] != label[1:]
    return edges
