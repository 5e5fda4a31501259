"""An NYUv2 folder as a source of frames, and a picklable request for one. Knows nothing about how the folder was made.

Images are uint8: LibMTL trains on floats, which are 8-bit images divided by 255 in the copies that we know of.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from edge_mtl.tasks import NYU_TASKS, BoxTruth, Specs
from mtl.datasets.frame import Frame, TruthNote
from mtl.datasets.nyuv2.arrays import depth_array, image_array, label_array, load_array, normal_array
from mtl.datasets.nyuv2.axes import AxesFound, NormalAxes, detect_axes
from mtl.datasets.nyuv2.layout import (
    PARTS,
    DatasetError,
    DatasetMissing,
    Description,
    Part,
    count_frames,
    frame_path,
    intrinsics_at,
    missing_message,
    read_description,
    write_description,
)
from mtl.datasets.region_boxes import region_boxes
from mtl.datasets.rooms.instances import OBJECT_LABELS
from mtl.datasets.rooms.tasks import OBJECTS, ROOM_TASKS
from mtl.datasets.surface import normals_of_depth
from mtl.datasets.task_choice import chosen
from mtl.datasets.worlds.objects import least_seen
from mtl.geometry import Intrinsics

__all__ = ["NYUV2_TASKS", "NyuFrames", "NyuRequest", "describe_folder", "detect_folder_axes", "new_description", "set_aside"]

_LOG = logging.getLogger("edge_mtl.train")

NYUV2_TASKS: Specs = MappingProxyType({task: ROOM_TASKS[task] for task in (*NYU_TASKS, OBJECTS)})
"""What frames may have truths of: the dense tasks, and the objects of rooms as far as labels tell them apart."""

_FRAMES_TO_DETECT = 12
_BLOCK = 16
"""Neighbours in the official order show the same rooms: frames are set aside in runs of this many."""


@dataclass(frozen=True, slots=True)
class NyuRequest:
    """NYUv2 frames by description.

    Attributes:
        part: folder to read; "val" is the test set.
        aside: how many training frames are set aside for validation.
        take: "rest" gives the frames that are not set aside, "aside" those that are.
        first: only this many frames (0: all).
        tasks: what frames have truths of; none named stands for the three dense tasks.
    """

    root: str
    part: Part
    aside: int = 0
    take: Literal["rest", "aside"] = "rest"
    first: int = 0
    tasks: tuple[str, ...] = ()

    def open(self, *, workers: int = 1, progress: bool = False) -> NyuFrames:
        """The frames; files are read when a frame is asked for. `workers` and `progress` are of no use here.

        Raises:
            DatasetMissing: there is no data set; the message says how to get one.
            DatasetError: it is incomplete, or the axes of its normals cannot be told.
            BuildError: for tasks that it has no truths of.
        """
        tasks = chosen(self.tasks, NYUV2_TASKS, default=NYU_TASKS)
        root = Path(self.root)
        description = describe_folder(root)
        count = count_frames(root, self.part)
        aside = set_aside(count, self.aside) if self.aside else np.empty(0, np.int64)
        numbers = aside if self.take == "aside" else np.setdiff1d(np.arange(count), aside)
        return NyuFrames(root, self.part, numbers[: self.first or None].tolist(), description, tasks)


class NyuFrames:
    """Frames of one part of a folder, in the camera frame (x right, y down, z forward).

    Objects are the connected regions of a class, of the classes and of the least size that objects of rooms have.
    """

    def __init__(
        self, root: Path, part: Part, numbers: Sequence[int], description: Description, tasks: Specs = NYU_TASKS
    ) -> None:
        self.tasks = tasks
        self._root = root
        self._part: Part = part
        self._numbers = numbers
        self._size = description.size
        self._axes = NormalAxes.parse(description.axes)
        self.intrinsics: Intrinsics = description.intrinsics
        self.truth_notes = _truth_notes(description, tasks)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`. Raises DatasetError naming the file that cannot be used."""
        number = self._numbers[index]
        image, label, depth, normal = (self._path(modality, number) for modality in ("image", "label", "depth", "normal"))
        size = self._size
        labels = label_array(load_array(label), size=size, where=str(label))
        dense = (
            labels,
            depth_array(load_array(depth), size=size, where=str(depth)),
            self._axes.apply(normal_array(load_array(normal), size=size, where=str(normal))),
        )
        truths: dict[str, Any] = dict(zip(NYU_TASKS, dense, strict=True))
        if OBJECTS in self.tasks:
            truths[OBJECTS] = _objects(labels)
        pixels = image_array(load_array(image), size=size, where=str(image))
        return Frame(pixels, {task: truths[task] for task in self.tasks}, self.intrinsics)

    def _path(self, modality: str, number: int) -> Path:
        return frame_path(self._root, self._part, modality, number)


def _objects(labels: np.ndarray) -> BoxTruth:
    """The objects of a frame, from its labels (H, W)."""
    height, width = labels.shape
    pixels, side = least_seen((height, width))
    return region_boxes(labels, {label: index for index, label in enumerate(OBJECT_LABELS)}, pixels=pixels, side=side)


def _truth_notes(description: Description, tasks: Specs) -> dict[str, TruthNote]:
    """How objects are made, and what `dataset.json` says of how depth and normals were, as far as it does."""
    notes, source = {}, description.source
    _, depth, normals = NYU_TASKS
    if depth in source:
        notes[depth] = TruthNote(str(source[depth]))
    if "computed" in description.evidence:
        notes[normals] = TruthNote(str(source.get(normals, description.evidence["computed"])), pseudo=True)
    if OBJECTS in tasks:
        notes[OBJECTS] = TruthNote("connected regions of a class in the labels", pseudo=True)
    return notes


def set_aside(count: int, wanted: int) -> np.ndarray:
    """Which of `count` training frames are for validation: (wanted,) int64, rising; always the same.

    Runs of neighbours are taken, because neighbours show the same rooms and would otherwise be in both sets.

    Raises:
        DatasetError: more than half of the frames are asked for.
    """
    if not 0 < wanted <= count // 2:
        raise DatasetError(f"data.validation_from_train should be from 1 to {count // 2} of {count} frames, found {wanted}")
    starts = np.random.default_rng([count, wanted, 2012]).permutation(-(-count // _BLOCK)) * _BLOCK
    chosen = np.concatenate([np.arange(start, min(start + _BLOCK, count)) for start in starts])
    return np.sort(chosen[:wanted])


def describe_folder(root: Path) -> Description:
    """The folder's description; made, and kept in `dataset.json` where that can be written, when it has none.

    Raises:
        DatasetMissing: there is no data set.
        DatasetError: its conversion was not finished, or the axes of its normals cannot be told.
    """
    description = read_description(root)
    if description is None:
        description = new_description(root)
        try:
            write_description(root, description)
        except OSError as exc:
            _LOG.warning("%s cannot be written (%s): the axes of the normals are detected at every start", root, exc.strerror)
    if not description.complete:
        done = sum(len(numbers) for numbers in description.done.values())
        raise DatasetError(
            f"the conversion of {root} stopped after {done} of {sum(description.counts.values())} frames. "
            "Run the same prepare_nyuv2.py command again: it continues where it stopped"
        )
    return description


def detect_folder_axes(root: Path, part: Part, count: int) -> AxesFound:
    """The axes of a folder's normals, from frames spread over a part. Raises DatasetError."""
    numbers = np.unique(np.linspace(0, count - 1, min(count, _FRAMES_TO_DETECT)).astype(int)).tolist()

    def pair(number: int) -> tuple[np.ndarray, np.ndarray]:
        depth_path, normal_path = (frame_path(root, part, modality, number) for modality in ("depth", "normal"))
        depth = depth_array(load_array(depth_path), where=str(depth_path))
        stored = normal_array(load_array(normal_path), size=depth.shape, where=str(normal_path))
        return stored, normals_of_depth(depth, intrinsics_at(depth.shape))

    return detect_axes(pair(number) for number in numbers)


def new_description(root: Path, *, axes: NormalAxes | None = None) -> Description:
    """What a folder of .npy files is; the axes of its normals are detected where they are not stated.

    Raises:
        DatasetMissing: there is no data set.
        DatasetError: it is incomplete, or the axes cannot be told.
    """
    if not root.is_dir():
        raise DatasetMissing(missing_message(root, "no such folder"))
    counts = {part: count_frames(root, part) for part in PARTS}
    evidence: dict[str, Any] = {"stated": str(axes)}
    if axes is None:
        found = detect_folder_axes(root, "train", counts["train"])
        axes, evidence = found.axes, found.evidence
        _LOG.info("%s: normals are stored as %s (mean cosine %.3f to those of the depth)", root, axes, found.cosine)
    height, width = load_array(frame_path(root, "train", "image", 0)).shape[:2]
    size = (height, width)
    return Description(size, intrinsics_at(size), str(axes), evidence, {"kind": "folder"}, counts)
