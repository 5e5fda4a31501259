"""Looks at every shard of rendered streets and says what is wrong, by folder. Changes nothing; knows nothing about printing."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np

from edge_mtl.errors import BuildError
from mtl.datasets.bdd100k.lane_bits import lane_classes
from mtl.datasets.report import Check, Progress, Report
from mtl.datasets.worlds.cache import SPLITS, Split
from mtl.datasets.worlds.inspecting import inspect_shards
from mtl.datasets.worlds.objects import SeenObjects
from mtl.datasets.worlds.tally import Tally

from .classes import CLASS_NAMES, DRIVABLE_CLASSES, LANE_CLASSES, OBJECT_CLASSES, SCENES, TIMES, WEATHERS, Label
from .dataset import WORLD, cache_folder
from .render import DEFAULT_OPTIONS, StreetSample, render_street
from .road import FAR_M
from .shards import count_frames, read_frame

__all__ = ["inspect"]

_UNIT_TOLERANCE = 1e-3


def inspect(root: Path, *, progress: Progress | None = None) -> Report:
    """Read every frame of every size and split; the first of each shard is compared with what its seed gives."""
    return inspect_shards(root, WORLD, _Look, progress)


class _Look:
    """What was seen of the streets of one size so far."""

    def __init__(self, folder: Path) -> None:
        _, size, _ = folder.name.split("-")
        height, width = map(int, size.split("x"))
        self._name, self._size = size, (height, width)
        self._comparable = cache_folder(folder.parent, "train", height, width, DEFAULT_OPTIONS).parent == folder
        self._frames: Counter[Split] = Counter()
        self._problems: list[str] = []
        self._maps: list[str] = []
        self._boxes: list[str] = []
        self._per_frame: list[int] = []
        self._tallies = {
            "maps": Tally(CLASS_NAMES), "drivable": Tally(DRIVABLE_CLASSES), "lane": Tally(LANE_CLASSES),
            "objects": Tally(OBJECT_CLASSES), "scene": Tally(SCENES), "weather": Tally(WEATHERS), "timeofday": Tally(TIMES),
        }  # fmt: skip

    def shard(self, shard: Path, split: Split) -> None:
        """Look at every frame of a shard."""
        try:
            for index in range(count_frames(shard)):
                street = read_frame(shard, index)
                self._frame(street, f"{shard}, frame {index}", split)
                if index == 0 and self._comparable:
                    self._compare(street, f"{shard}, frame {index}")
        except BuildError as exc:
            self._problems.append(str(exc))
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as exc:
            self._problems.append(f"{shard} cannot be read ({exc}). Remove it, run train/make_streets.py again")

    def checks(self) -> list[Check]:
        """Every line of the report."""
        counts = ", ".join(f"{split} {self._frames[split]}" for split in SPLITS if self._frames[split])
        found = [Check(f"streets {self._name}", counts or "no frames", tuple(self._problems))]
        words = {"objects": "boxes", "scene": "frames", "weather": "frames", "timeofday": "frames"}
        problems = {"maps": tuple(self._maps), "objects": tuple(self._boxes)}
        for name, tally in self._tallies.items():
            if not tally and name not in problems:
                continue
            said = tally.found()
            if name == "objects" and self._per_frame:
                said += f", {np.mean(self._per_frame):.1f} a frame ({min(self._per_frame)} to {max(self._per_frame)})"
            of = words.get(name, "labelled pixels")
            found.append(Check(f"{name} {self._name}", said, problems.get(name, ()), "", tally.details(of)))
        return found

    def _frame(self, street: StreetSample, where: str, split: Split) -> None:
        self._frames[split] += 1
        if street.label.shape != self._size:
            self._problems.append(f"{where}: expected {self._name}, found {'x'.join(map(str, street.label.shape))}")
            return
        known = street.depth_m > 0
        length = np.linalg.norm(street.normals, axis=-1)
        sky = street.label == Label.SKY
        if not np.isfinite(street.depth_m).all() or street.depth_m.min() < 0 or street.depth_m.max() > 1.001 * FAR_M:
            self._maps.append(f"{where}: expected depth within 0 to {FAR_M:g} m, found some outside")
        if (np.abs(length[~sky] - 1) > _UNIT_TOLERANCE).any() or (known & sky).any():
            self._maps.append(f"{where}: expected normals of length 1 and depth everywhere but in the sky")
        maps = {"maps": street.label, "drivable": street.drivable, "lane": lane_classes(street.lanes)}
        for name, labels in maps.items():
            tally = self._tallies[name]
            if labels.max() >= tally.classes:
                self._maps.append(f"{where}: expected classes 0 to {tally.classes - 1} of {name}, found {labels.max()}")
                continue
            tally.add(split, np.bincount(labels.ravel(), minlength=tally.classes))
        self._boxes += [f"{where}: {problem}" for problem in _wrong(street.objects, self._size)]
        self._per_frame.append(len(street.objects))
        self._tallies["objects"].add(split, np.bincount(street.objects.classes, minlength=len(OBJECT_CLASSES)))
        for name, kind in (("scene", street.scene), ("weather", street.weather), ("timeofday", street.time)):
            self._tallies[name].add(split, np.bincount([kind], minlength=self._tallies[name].classes))

    def _compare(self, street: StreetSample, where: str) -> None:
        """A frame is the one that its seed gives."""
        again = render_street(street.seed, *self._size)
        same = all(np.array_equal(getattr(again, name), getattr(street, name)) for name in ("label", "drivable", "lanes"))
        same &= all(
            np.array_equal(getattr(again.objects, one.name), getattr(street.objects, one.name)) for one in fields(SeenObjects)
        )
        if not same:
            self._maps.append(f"{where}: it is not what the seed {street.seed} gives. Remove the shard")


def _wrong(objects: SeenObjects, size: tuple[int, int]) -> list[str]:
    """What cannot be of the objects of a frame."""
    height, width = size
    found = []
    outer, inner = objects.amodal, objects.visible
    if (outer[:, :2] < -0.5).any() or (outer[:, 2:] > np.array([width - 0.5, height - 0.5])).any():
        found.append("a box that leaves the frame")
    if (outer[:, :2] > inner[:, :2]).any() or (outer[:, 2:] < inner[:, 2:]).any() or (inner[:, 2:] <= inner[:, :2]).any():
        found.append("a box of what is seen that is empty, or is not within that of the whole object")
    if ((objects.share <= 0) | (objects.share > 1)).any():
        found.append("a visible share that is not within 0 to 1")
    return found
