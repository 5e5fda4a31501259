"""Looks at every file of a folder and says what is wrong, by file name. Changes nothing; knows nothing about printing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import sha256_file
from edge_mtl.image.camera_check import camera_oddity
from edge_mtl.image.frames import Intrinsics as Pinhole
from mtl.datasets.data_set import Split
from mtl.datasets.folder.camera import NoCamera
from mtl.datasets.folder.description import DESCRIPTION, FolderDescription, read_description
from mtl.datasets.folder.index import FolderIndex, folder_index
from mtl.datasets.folder.reading import read_photo
from mtl.datasets.folder.splits import SPLITS
from mtl.datasets.folder.tallies import DepthTally, NormalTally, tally_of
from mtl.datasets.folder.truth_files import JsonFiles
from mtl.datasets.report import Check, Progress, Report
from mtl.geometry import Intrinsics

__all__ = ["inspect"]

_NAMED = 5


def inspect(root: Path, *, progress: Progress | None = None) -> Report:
    """Read every file of a folder and compare it with what dataset.toml says.

    Returns:
        A report; where dataset.toml cannot be used, that is its only problem.
    """
    try:
        description = read_description(root)
        index = folder_index(root)
    except EdgeMtlError as exc:
        return Report(str(root), (Check(DESCRIPTION, "cannot be used", (str(exc),)),))
    look = _Look(index)
    for number, stem in enumerate(index.photos):
        look.frame(stem)
        if progress is not None:
            progress("frames", number + 1, len(index.photos))
    return Report(str(root), (_described(description), *look.checks()))


class _Look:
    """What was seen of a folder so far."""

    def __init__(self, index: FolderIndex) -> None:
        self._index = index
        self._split: dict[str, Split] = {stem: split for split in SPLITS for stem in index.assigned.stems[split]}
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._images: list[str] = []
        self._cameras: list[str] = []
        self._odd_cameras: list[str] = []
        self._content: dict[str, str] = {}
        self._focal: list[float] = []
        self._same: list[str] = []
        description = index.description
        self._tallies = {task: tally_of(spec, description.files[task]) for task, spec in description.tasks.items()}

    def frame(self, stem: str) -> None:
        """Look at an image, its camera and its labels."""
        path = self._index.photos[stem]
        size, camera = None, None
        try:
            image = read_photo(path)
            size = (image.shape[0], image.shape[1])
            self._sizes[size] += 1
            self._compare(stem, path)
        except EdgeMtlError as exc:
            self._images.append(str(exc))
        if size is not None and not isinstance(self._index.description.camera, NoCamera):
            camera = self._camera(stem, size)
        stored = {task: found for task in self._tallies if (found := self._stored(task, stem, size)) is not None}
        for task, found in stored.items():
            self._tallies[task].add(found, self._index.labels[task][stem], self._split.get(stem), camera)
        self._pair(stored, camera)

    def checks(self) -> tuple[Check, ...]:
        """Every line of the report."""
        images = Counter(self._split.get(stem) for stem in self._index.photos)
        tasks = [tally.check(images, self._before(task)) for task, tally in self._tallies.items()]
        return (self._frames(), self._photos(), *self._camera_line(), *tasks)

    def _compare(self, stem: str, path: Path) -> None:
        """The same image in two splits makes held-out figures too good."""
        digest = sha256_file(path)
        other = self._content.setdefault(digest, stem)
        ours, theirs = self._split.get(stem), self._split.get(other)
        if ours != theirs and ours is not None and theirs is not None:
            self._same.append(f"{path} ({ours}) is the same image as {other} ({theirs}); expected each in one split")

    def _camera(self, stem: str, size: tuple[int, int]) -> Intrinsics | None:
        try:
            camera = self._index.intrinsics(stem, size)
        except EdgeMtlError as exc:
            self._cameras.append(str(exc))
            return None
        if oddity := camera_oddity(Pinhole(*camera), size):
            self._odd_cameras.append(f"{self._index.photos[stem]}: {oddity}")
        self._focal.append(camera[0] / size[1])
        return camera

    def _stored(self, task: str, stem: str, size: tuple[int, int] | None) -> Any | None:
        path, files = self._index.labels[task].get(stem), self._index.description.files[task]
        if path is None or (size is None and isinstance(files, JsonFiles)):
            return None
        try:
            return files.stored(path, size)
        except EdgeMtlError as exc:
            self._tallies[task].problems.append(str(exc))
            return None

    def _pair(self, stored: dict[str, Any], camera: Intrinsics | None) -> None:
        """Depth and normals of one frame tell the axes of the normals."""
        depth = next((found for task, found in stored.items() if isinstance(self._tallies[task], DepthTally)), None)
        if depth is None or camera is None:
            return
        for task, found in stored.items():
            tally = self._tallies[task]
            if isinstance(tally, NormalTally):
                tally.pair(found, depth, camera)

    def _before(self, task: str) -> tuple[str, ...]:
        """What is wrong with the files of a task before one is opened."""
        found = self._index.description
        files = found.files[task]
        folder = found.root / files.folder
        if not folder.is_dir():
            return (f"{found.root / DESCRIPTION}: tasks.{task}.folder: there is no folder {folder}",)
        if not self._index.labels[task] and not self._index.homeless[task]:
            return (f"{folder}: expected files called NAME{' or NAME'.join(files.suffixes)}, found none",)
        return tuple(f"{path}: there is no image of this label" for path in self._index.homeless[task])

    def _frames(self) -> Check:
        index, assigned = self._index, self._index.assigned
        doubled = [f"{path}: another file has the same name but for its suffix; expected one" for path in index.doubled]
        empty = [f"the split {split} has no frame with a label" for split in SPLITS if not index.labelled[split]]
        bare = [stem for stem in index.photos if not index.known(stem)]
        notes = []
        if bare:
            notes.append(f"{len(bare)} images without any label are not used: {_listed(bare)}")
        if assigned.unlisted:
            notes.append(f"{len(assigned.unlisted)} images are in no list and are not used: {_listed(assigned.unlisted)}")
        if not index.description.splits.tests:
            notes.append("there is no test split: test figures are of the validation frames that weights are chosen by")
        counts = ", ".join(f"{split} {len(assigned.stems[split])}" for split in SPLITS if assigned.stems[split])
        details = {"unlabelled": bare, "unlisted": list(assigned.unlisted)}
        problems = (*doubled, *assigned.problems, *self._same, *empty)
        return Check("frames", f"{len(index.photos)} images: {counts}", problems, "; ".join(notes), details)

    def _photos(self) -> Check:
        listed = ", ".join(f"{count} of {height}x{width}" for (height, width), count in self._sizes.most_common(_NAMED))
        return Check("images", listed or "none can be read", tuple(self._images))

    def _camera_line(self) -> tuple[Check, ...]:
        if isinstance(self._index.description.camera, NoCamera):
            return ()
        wide = [float(np.degrees(2 * np.arctan(0.5 / focal))) for focal in self._focal]
        found = f"{min(wide):.0f} to {max(wide):.0f} degrees across" if wide else "none can be read"
        more = f" (and {len(self._odd_cameras) - 1} more)" if len(self._odd_cameras) > 1 else ""
        note = f"{self._odd_cameras[0]}{more}" if self._odd_cameras else ""
        return (Check("camera", found, tuple(self._cameras), note),)


def _described(found: FolderDescription) -> Check:
    terms = "may be copied into bundles" if found.redistributable else "may not be copied into bundles"
    return Check(DESCRIPTION, f"{found.title}; {found.licence}; images {terms}")


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
