"""What the truths of a task are: how often each class occurs in each split, number and sizes of boxes, usual depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_mtl.tasks import TaskSpec
from edge_mtl.tasks.boxes import BoxTruth
from mtl.datasets.data_set import Split
from mtl.datasets.folder.splits import SPLITS
from mtl.datasets.frame import TruthNote
from mtl.datasets.report import Check

__all__ = ["DepthTally", "TruthTally", "tally_of"]

Array = np.ndarray

_SMALL, _MEDIUM = 32.0**2, 96.0**2
"""Areas in pixels below which COCO counts an object as small, and as medium (cocodataset.org, "Detection Evaluate")."""

_NAMED = 5
_UNITS = {"boxes": "boxes", "class": "frames"}


def tally_of(spec: TaskSpec, note: TruthNote | None) -> TruthTally | DepthTally:
    """An empty tally of a task, whose truths were made as a note says."""
    return TruthTally(spec) if hasattr(spec, "classes") else DepthTally(spec, note)


class DepthTally:
    """Truths of one task of depth so far."""

    def __init__(self, spec: TaskSpec, note: TruthNote | None) -> None:
        self.problems: list[str] = []
        self._spec, self._note = spec, note
        self._labelled: Counter[Split] = Counter()
        self._medians: list[float] = []
        self._pixels, self._known = 0, 0

    def add(self, truth: Any, split: Split) -> None:
        """One frame's truth."""
        known = truth[truth > 0]
        self._labelled[split] += 1
        self._pixels, self._known = self._pixels + truth.size, self._known + known.size
        if known.size:
            self._medians.append(float(np.median(known)))

    def check(self, images: Mapping[Split, int]) -> Check:
        """The line of the report.

        Args:
            images: of each split that was looked at.
        """
        coverage = ", ".join(f"{split} {self._labelled[split]} of {count}" for split, count in images.items())
        share, median = self._known / max(1, self._pixels), float(np.median(self._medians)) if self._medians else 0.0
        details = {
            "kind": self._spec.kind,
            "coverage": {split: [self._labelled[split], count] for split, count in images.items()},
            "median": round(median, 6),
            "known": round(share, 6),
        }
        found = f"{coverage}\nmedian {median:.3g}, {share:.0%} of the pixels known"
        return Check(self._spec.name, found, tuple(self.problems), self._note.made if self._note else "", details)


class TruthTally:
    """Truths of one task so far: labels, boxes or the class of a frame.

    Attributes:
        classes: of the task.
    """

    def __init__(self, spec: TaskSpec) -> None:
        self.problems: list[str] = []
        self._spec = spec
        self.classes: tuple[str, ...] = spec.classes  # type: ignore[attr-defined]
        self._amounts: dict[Split, Array] = {}
        self._frames: dict[Split, Array] = {}
        self._labelled: Counter[Split] = Counter()
        self._boxes: list[int] = []
        self._areas: list[Array] = []
        self._crowds, self._void, self._pixels = 0, 0, 0

    def add(self, truth: Any, split: Split) -> None:
        """One frame's truth."""
        amounts = self._count(truth)
        self._labelled[split] += 1
        for table, values in ((self._amounts, amounts), (self._frames, amounts > 0)):
            table[split] = table.get(split, np.zeros(len(self.classes), np.int64)) + values

    def frames(self, split: Split) -> Array:
        """(C,) int64: frames of a split that have each class."""
        return self._frames.get(split, np.zeros(len(self.classes), np.int64))

    def figures(self) -> tuple[str, dict[str, Any]]:
        """What was found in words, and "of", "classes" and "boxes" for `Check.details`."""
        amounts = sum(self._amounts.values(), np.zeros(len(self.classes), np.int64))
        found = f"{int((amounts > 0).sum())} of {len(self.classes)} classes"
        splits = [split for split in SPLITS if split in self._amounts]
        details: dict[str, Any] = {
            "of": _UNITS.get(self._spec.kind, "labelled pixels"),
            "classes": {name: {split: self._of_class(split, place) for split in splits}
                        for place, name in enumerate(self.classes)} if splits else {},
        }  # fmt: skip
        if self._boxes:
            sizes = self._sizes()
            details["boxes"] = sizes
            found += (
                f", {sizes['count']} boxes: {sizes['per_image']:.1f} an image ({sizes['most']} at most), "
                f"{sizes['small']:.0%} small, {sizes['medium']:.0%} medium, {sizes['large']:.0%} large, {self._crowds} crowds"
            )
        elif self._pixels:
            found += f", {self._void / self._pixels:.1%} void"
        return found, details

    def check(self, images: Mapping[Split, int]) -> Check:
        """The line of the report.

        Args:
            images: of each split that was looked at.
        """
        coverage = ", ".join(f"{split} {self._labelled[split]} of {count}" for split, count in images.items())
        found, figures = self.figures()
        notes = list[str]()
        train = self._frames.get("train")
        if train is not None and (absent := [one for one, count in zip(self.classes, train, strict=True) if not count]):
            listed = ", ".join(absent[:_NAMED]) + (f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else "")
            notes.append(f"{len(absent)} classes are in no training frame and are not learnt: {listed}")
        details = {
            "kind": self._spec.kind,
            "coverage": {split: [self._labelled[split], count] for split, count in images.items()},
            **figures,
        }
        return Check(self._spec.name, f"{coverage}\n{found}", tuple(self.problems), "; ".join(notes), details)

    def _count(self, truth: Any) -> Array:
        """(C,) int64: pixels, boxes or frames of each class."""
        count = len(self.classes)
        if isinstance(truth, BoxTruth):
            single = truth.xyxy[~truth.crowd]
            self._boxes.append(len(single))
            self._crowds += int(truth.crowd.sum())
            self._areas.append((single[:, 2] - single[:, 0]) * (single[:, 3] - single[:, 1]))
            return np.bincount(truth.classes[~truth.crowd], minlength=count)
        if isinstance(truth, np.ndarray):
            found = np.bincount(truth.ravel(), minlength=256)
            self._pixels += truth.size
            self._void += truth.size - int(found[:count].sum())
            return found[:count]
        return np.bincount([int(truth)], minlength=count)

    def _of_class(self, split: Split, place: int) -> dict[str, float]:
        amounts = self._amounts[split]
        share = int(amounts[place]) / max(1, int(amounts.sum()))
        boxes = {"boxes": int(amounts[place])} if self._boxes else {}
        return {"share": round(share, 6), **boxes, "frames": int(self._frames[split][place])}

    def _sizes(self) -> dict[str, float]:
        areas = np.concatenate(self._areas)
        small, medium = (float((areas < limit).mean()) if areas.size else 0.0 for limit in (_SMALL, _MEDIUM))
        return {
            "count": len(areas),
            "crowds": self._crowds,
            "per_image": round(float(np.mean(self._boxes)), 3),
            "most": max(self._boxes),
            "small": round(small, 6),
            "medium": round(medium - small, 6),
            "large": round(1 - medium, 6) if areas.size else 0.0,
        }
