"""What was seen of the label files of one task, kind by kind: plausible or not. Reads stored values; opens no files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import VOID, LabelsSpec, TaskSpec
from mtl.datasets.data_set import Split
from mtl.datasets.folder.splits import SPLITS
from mtl.datasets.folder.truth_files import DepthFiles, JsonFiles, MaskFiles, NormalFiles, TruthFiles, listed_counts
from mtl.datasets.normal_axes import detect_axes
from mtl.datasets.published.tallies import TruthTally
from mtl.datasets.report import Check
from mtl.datasets.surface import normals_of_depth
from mtl.geometry import Intrinsics

__all__ = ["DepthTally", "MaskTally", "NoMapTally", "NormalTally", "Tally", "tally_of"]

Array = np.ndarray

_UNIT_TOLERANCE = 0.05
_MOST_WRONG = 0.01
"""Share of the pixels of a file that may be of another length, or face away, before it is told."""
_PAIRS = 12
"""Frames with depth and normals that the axes of the normals are compared on."""
_SCALES = (1e-3, 1e-2, 1e-1, 1e1, 1e2, 1e3)


class Tally(ABC):
    """Files of one task so far; `look` adds one, `check` says what all are."""

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.files: Counter[Split | None] = Counter()
        self.problems: list[str] = []

    def add(self, stored: Any, path: Path, split: Split | None, camera: Intrinsics | None) -> None:
        """Add a file as it is stored, of a frame of a split (None: of no list), seen by a camera (None: not known)."""
        self.files[split] += 1
        self.look(stored, path, split, camera)

    @abstractmethod
    def look(self, stored: Any, path: Path, split: Split | None, camera: Intrinsics | None) -> None: ...

    @abstractmethod
    def judge(self) -> tuple[str, str, dict[str, Any]]:
        """What was found, a note, and figures; adds problems of all files together."""

    def check(self, images: Counter[Split | None], problems: tuple[str, ...] = ()) -> Check:
        """The line of the report.

        Args:
            images: of each split.
            problems: found before any file was opened.
        """
        coverage = {split: (self.files[split], images[split]) for split in SPLITS if images[split]}
        listed = ", ".join(f"{split} {have} of {of}" for split, (have, of) in coverage.items())
        found, note, details = self.judge() if self.files else ("", "", {})
        details = {"kind": self.spec.kind, "coverage": {split: list(pair) for split, pair in coverage.items()}, **details}
        untaught = () if self.files["train"] else ("no train frame has it, so that it cannot be learnt",)
        every = (*problems, *self.problems, *untaught)
        return Check(self.spec.name, "\n".join(filter(None, (listed, found))), every, note, details)

    def judge_classes(self, classes: Sequence[str], frames: Mapping[Split, Array]) -> list[str]:
        """Adds a problem for each class that cannot be learnt; notes on those that a split does not measure.

        Args:
            frames: with each class, of each split.
        """
        for index, name in enumerate(classes):
            elsewhere = sum(int(frames[split][index]) for split in SPLITS)
            if self.files["train"] and not frames["train"][index]:
                seen = f"in {elsewhere} frames of val and test" if elsewhere else "in no frame at all"
                self.problems.append(f"the class {name!r} is in no train frame ({seen}), so that it is not learnt")
        notes = []
        for split in SPLITS[1:]:
            absent = [name for index, name in enumerate(classes) if not frames[split][index]]
            if absent and self.files[split]:
                notes.append(f"not measured in {split}, where no frame has them: {', '.join(absent)}")
        return notes


class MaskTally(Tally):
    """Classes by split, and indices that nothing declares."""

    def __init__(self, spec: LabelsSpec, files: MaskFiles) -> None:
        super().__init__(spec)
        self._files, self._classes = files, spec.classes
        self._pixels = {split: np.zeros(VOID + 1, np.int64) for split in SPLITS}
        self._frames = {split: np.zeros(VOID + 1, np.int64) for split in SPLITS}

    def look(self, stored: Array, path: Path, split: Split | None, camera: Intrinsics | None) -> None:
        strange = self._files.strange(stored)
        if strange:
            self.problems.append(f"{path}: indices that dataset.toml does not declare: {listed_counts(strange)}")
        declared = stored[~np.isin(stored, list(strange))] if strange else stored.ravel()
        counts = np.bincount(self._files.table[declared], minlength=VOID + 1)
        if not counts[:VOID].any():
            self.problems.append(f"{path}: expected some class, found only void")
        if split is not None:
            self._pixels[split] += counts
            self._frames[split] += counts > 0

    def judge(self) -> tuple[str, str, dict[str, Any]]:
        count = len(self._classes)
        total = sum(self._pixels.values(), np.zeros(VOID + 1, np.int64))
        seen_classes = int((total[:count] > 0).sum())
        void = total[VOID] / max(1, total.sum())
        classes = {
            name: {split: self._of_class(index, split) for split in SPLITS if self.files[split]}
            for index, name in enumerate(self._classes)
        }
        notes = [f"{void:.0%} of the pixels are void"] if void > 0.5 else []
        notes += self.judge_classes(self._classes, self._frames)
        return f"{seen_classes} of {count} classes, {void:.1%} void", "\n".join(notes), {"classes": classes}

    def _of_class(self, index: int, split: Split) -> dict[str, float]:
        """Share of the pixels with a class, and frames."""
        known = int(self._pixels[split][:VOID].sum())
        share = int(self._pixels[split][index]) / max(1, known)
        return {"share": round(share, 6), "frames": int(self._frames[split][index])}


class DepthTally(Tally):
    """Medians of files, and how much lies in the range."""

    def __init__(self, spec: TaskSpec, files: DepthFiles) -> None:
        super().__init__(spec)
        self._files = files
        self._medians: list[float] = []
        self._outside: list[str] = []
        self._pixels, self._known, self._inside = 0, 0, 0

    def look(self, stored: Array, path: Path, split: Split | None, camera: Intrinsics | None) -> None:
        near, far = self._files.range_m
        known = stored[stored > 0]
        inside = int(((known >= near) & (known <= far)).sum())
        self._pixels, self._known, self._inside = self._pixels + stored.size, self._known + known.size, self._inside + inside
        if not known.size:
            self.problems.append(f"{path}: expected depth, found no pixel above 0")
            return
        self._medians.append(float(np.median(known)))
        if not inside:
            self._outside.append(
                f"{path}: expected depth within {near:g} to {far:g} m, found none: {known.min():.4g} to {known.max():.4g} m"
            )

    def judge(self) -> tuple[str, str, dict[str, Any]]:
        self.problems += self._outside
        near, far = self._files.range_m
        if not self._medians:
            return "no known depth", "", {}
        median = float(np.median(self._medians))
        if not near <= median <= far:
            middle = float(np.sqrt(max(near, 0.01 * far) * far))
            fitting = [factor for factor in _SCALES if near <= median * factor <= far]
            better = min(fitting, key=lambda factor: abs(np.log(median * factor / middle)), default=None)
            scale = self._files.scale_m
            what = f"scale_m = {scale * better:g} would make it" if scale and better else "other units would make it"
            guess = f"; {what} {median * better:.3g} m" if better else ""
            self.problems.insert(0, f"the depth of a usual file is {median:.4g} m, outside range_m {near:g} to {far:g}{guess}")
        share = self._inside / max(1, self._known)
        details = {
            "median_m": round(median, 6),
            "known": round(self._known / max(1, self._pixels), 6),
            "within_range": round(share, 6),
        }
        found = f"median {median:.3g} m, {self._known / self._pixels:.0%} of the pixels known, {share:.1%} of them in range"
        note = f"{1 - share:.0%} of the known depth is outside range_m and not used" if 0.2 < 1 - share < 1 else ""
        return found, note, details


class NormalTally(Tally):
    """Lengths, directions, and axes where depth can tell them."""

    def __init__(self, spec: TaskSpec, files: NormalFiles) -> None:
        super().__init__(spec)
        self._files = files
        self._pixels, self._known, self._away = 0, 0, 0
        self._pairs: list[tuple[Array, Array]] = []

    def look(self, stored: Array, path: Path, split: Split | None, camera: Intrinsics | None) -> None:
        length = np.linalg.norm(stored, axis=2)
        known = length > 0
        count = int(known.sum())
        self._pixels, self._known = self._pixels + known.size, self._known + count
        if not count:
            self.problems.append(f"{path}: expected normals, found no pixel that is not 0")
            return
        wrong = known & (np.abs(length - 1) > _UNIT_TOLERANCE)
        if wrong.sum() > _MOST_WRONG * count:
            self.problems.append(
                f"{path}: expected unit vectors, found {wrong.sum() / count:.0%} of another length, "
                f"{float(np.median(length[wrong])):.3g} for example"
            )
        if camera is not None:
            away = int((self._facing(stored, path, camera) > 0.0)[known].sum())
            self._away += away
            if away > _MOST_WRONG * count:
                self.problems.append(f"{path}: expected normals that face the camera, found {away / count:.0%} that face away")

    def pair(self, stored: Array, depth_m: Array, camera: Intrinsics) -> None:
        """Normals and depth of one frame, to compare their axes."""
        if len(self._pairs) < _PAIRS:
            self._pairs.append((stored, normals_of_depth(depth_m, camera)))

    def judge(self) -> tuple[str, str, dict[str, Any]]:
        known = max(1, self._known)
        share = self._known / max(1, self._pixels)
        found = f"{share:.0%} of the pixels known, {1 - self._away / known:.1%} of them face the camera"
        note = ""
        try:
            axes = detect_axes(self._pairs) if self._pairs else None
        except BuildError:
            axes, note = None, "depth does not tell the axes: they are as stated"
        if axes is not None:
            found += f"; by the depth their axes are {axes.axes} (mean cosine {axes.cosine:.2f})"
            if axes.axes != self._files.axes:
                stated = self._files.axes
                self.problems.insert(0, f'axes are "{stated}", the depth agrees with axes = "{axes.axes}"')
        return found, note, {"facing": round(1 - self._away / known, 6)}

    def _facing(self, stored: Array, path: Path, camera: Intrinsics) -> Array:
        """(H, W): normal times ray; below 0 where it faces the camera."""
        truth = self._files.truth(stored, path)
        fx, fy, cx, cy = camera
        x = ((np.arange(truth.shape[1]) - cx) / fx)[None, :]
        y = ((np.arange(truth.shape[0]) - cy) / fy)[:, None]
        facing: Array = truth[..., 0] * x + truth[..., 1] * y + truth[..., 2]
        return facing


class NoMapTally(Tally):
    """Boxes, or classes of frames, by class and split."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        self._truths = TruthTally(spec)

    def look(self, stored: Any, path: Path, split: Split | None, camera: Intrinsics | None) -> None:
        if split is not None:
            self._truths.add(stored, split)

    def judge(self) -> tuple[str, str, dict[str, Any]]:
        frames = {split: self._truths.frames(split) for split in SPLITS}
        notes = self.judge_classes(self._truths.classes, frames)
        found, details = self._truths.figures()
        return found, "\n".join(notes), details


def tally_of(spec: TaskSpec, files: TruthFiles) -> MaskTally | DepthTally | NormalTally | NoMapTally:
    """An empty tally of a task."""
    if isinstance(files, JsonFiles):
        return NoMapTally(spec)
    if isinstance(files, MaskFiles):
        assert isinstance(spec, LabelsSpec)
        return MaskTally(spec, files)
    return DepthTally(spec, files) if isinstance(files, DepthFiles) else NormalTally(spec, files)
