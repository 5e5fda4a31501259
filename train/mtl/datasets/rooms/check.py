"""Looks at every shard of rendered rooms and says what is wrong, by folder. Changes nothing; knows nothing about printing."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np

from edge_mtl.errors import BuildError
from mtl.datasets.report import Check, Progress, Report
from mtl.datasets.worlds.cache import SPLITS, Split
from mtl.datasets.worlds.inspecting import inspect_shards
from mtl.datasets.worlds.objects import SeenObjects
from mtl.datasets.worlds.tally import Tally

from .dataset import WORLD, cache_folder
from .instances import OBJECT_CLASSES, SCENE_CLASSES
from .labels import CLASS_NAMES, VOID, Label
from .render import RenderOptions, RoomSample, cast_room
from .shards import count_frames, has_objects, read_frame

__all__ = ["inspect"]

_FAR_M = 10.0
"""No room is longer from corner to corner."""
_UNIT_TOLERANCE = 1e-3
_OPTIONS = tuple(
    RenderOptions(invalid_depth=holes, void_labels=void) for holes, void in itertools.product((False, True), repeat=2)
)
"""What train/make_rooms.py can be asked for: rooms of other options are not compared with their seeds."""


def inspect(root: Path, *, progress: Progress | None = None) -> Report:
    """Read every frame of every size and split; the first of each shard is compared with what its seed gives."""
    return inspect_shards(root, WORLD, _Look, progress)


class _Look:
    """What was seen of the rooms of one size so far."""

    def __init__(self, folder: Path) -> None:
        _, size, _ = folder.name.split("-")
        height, width = size.split("x")
        self._name, self._size = size, (int(height), int(width))
        known = {cache_folder(folder.parent, "train", *self._size, options).parent: options for options in _OPTIONS}
        self._options = known.get(folder)
        self._frames: Counter[Split] = Counter()
        self._bare: Counter[Split] = Counter()
        self._problems: list[str] = []
        self._maps: list[str] = []
        self._boxes: list[str] = []
        self._medians: list[float] = []
        self._shares: list[np.ndarray] = []
        self._per_frame: list[int] = []
        self._labels, self._objects, self._scenes = Tally(CLASS_NAMES), Tally(OBJECT_CLASSES), Tally(SCENE_CLASSES)

    def shard(self, shard: Path, split: Split) -> None:
        """Look at every frame of a shard."""
        known = has_objects(shard)
        try:
            for index in range(count_frames(shard)):
                room = read_frame(shard, index, objects=known)
                self._frame(room, f"{shard}, frame {index}", split)
                if index == 0 and room.objects is not None and self._options is not None:
                    self._compare(room, room.objects, self._options, f"{shard}, frame {index}")
        except BuildError as exc:
            self._problems.append(str(exc))
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as exc:
            self._problems.append(f"{shard} cannot be read ({exc}). Remove it, run train/make_rooms.py again")

    def checks(self) -> list[Check]:
        """Every line of the report."""
        counts = ", ".join(f"{split} {self._frames[split]}" for split in SPLITS if self._frames[split])
        bare = sum(self._bare.values())
        note = f"{bare} have no boxes yet: train/make_rooms.py adds them" if bare else ""
        median = f", {np.median(self._medians):.2f} m away in the middle" if self._medians else ""
        found = [
            Check(f"rooms {self._name}", counts or "no frames", tuple(self._problems), note),
            Check(f"maps {self._name}", self._labels.found() + median, tuple(self._maps), "", self._labels.details()),
        ]
        if not self._per_frame:
            return found
        full = float((np.concatenate(self._shares) == 1).mean()) if self._objects else 0.0
        boxes = (
            f"{np.mean(self._per_frame):.1f} a frame ({min(self._per_frame)} to {max(self._per_frame)}), "
            f"{full:.0%} in full view; {self._objects.found()}"
        )
        found.append(Check(f"objects {self._name}", boxes, tuple(self._boxes), "", self._objects.details("boxes")))
        found.append(Check(f"scene {self._name}", self._scenes.found(), (), "", self._scenes.details("frames")))
        return found

    def _frame(self, room: RoomSample, where: str, split: Split) -> None:
        self._frames[split] += 1
        if room.label.shape != self._size:
            self._problems.append(f"{where}: expected {self._name}, found {'x'.join(map(str, room.label.shape))}")
            return
        labels = np.bincount(room.label.ravel(), minlength=VOID + 1)
        strange = np.flatnonzero(labels[len(CLASS_NAMES) : VOID])
        known = room.depth_m > 0
        length = np.linalg.norm(room.normals, axis=-1)
        if len(strange):
            self._maps.append(f"{where}: labels that are no class: {(strange + len(CLASS_NAMES)).tolist()}")
        if not np.isfinite(room.depth_m).all() or room.depth_m.min() < 0 or room.depth_m.max() > _FAR_M:
            self._maps.append(f"{where}: expected depth within 0 to {_FAR_M:g} m, found some outside")
        if (np.abs(length[known] - 1) > _UNIT_TOLERANCE).any():
            self._maps.append(f"{where}: expected normals of length 1, found {length[known].min():.3g} to {length.max():.3g}")
        self._labels.add(split, labels[: len(CLASS_NAMES)])
        self._medians += [float(np.median(room.depth_m[known]))] if known.any() else []
        if room.objects is None or room.scene is None:
            self._bare[split] += 1
            return
        self._boxes += [f"{where}: {problem}" for problem in _wrong(room.objects, room.label)]
        self._shares.append(room.objects.share)
        self._per_frame.append(len(room.objects))
        self._objects.add(split, np.bincount(room.objects.classes, minlength=len(OBJECT_CLASSES)))
        self._scenes.add(split, np.bincount([room.scene], minlength=len(SCENE_CLASSES)))

    def _compare(self, room: RoomSample, stored: SeenObjects, options: RenderOptions, where: str) -> None:
        """Objects are those that the seed gives."""
        objects, scene = cast_room(room.seed, *self._size, options=options)
        pairs = ((getattr(objects, field.name), getattr(stored, field.name)) for field in fields(SeenObjects))
        if scene != room.scene or not all(np.array_equal(one, other) for one, other in pairs):
            self._boxes.append(f"{where}: its objects are not those that the seed {room.seed} gives. Remove the shard")


def _wrong(objects: SeenObjects, label: np.ndarray) -> list[str]:
    """What cannot be of the objects of a frame."""
    height, width = label.shape
    found = []
    outer, inner = objects.amodal, objects.visible
    edges = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
    if (outer[:, :2] < edges[:2]).any() or (outer[:, 2:] > edges[2:]).any():
        found.append("a box that leaves the frame")
    if (outer[:, :2] > inner[:, :2]).any() or (outer[:, 2:] < inner[:, 2:]).any() or (inner[:, 2:] <= inner[:, :2]).any():
        found.append("a box of what is seen that is empty, or is not within that of the whole object")
    if ((objects.share <= 0) | (objects.share > 1)).any():
        found.append("a visible share that is not within 0 to 1")
    for (left, top, right, bottom), index in zip(inner, objects.classes, strict=True):
        name = OBJECT_CLASSES[index]
        part = label[round(top + 0.5) : round(bottom + 0.5), round(left + 0.5) : round(right + 0.5)]
        if not ((part == Label[name.upper()]) | (part == VOID)).any():
            found.append(f"a box of {name} without any of its pixels")
    return found
