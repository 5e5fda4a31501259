"""Which files a folder has: images, the labels of each, and the frames of each split. Lists names; opens no image."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from edge_mtl.errors import BuildError
from mtl.datasets.data_set import Split
from mtl.datasets.folder.camera import SharedCamera
from mtl.datasets.folder.description import DESCRIPTION, FolderDescription, read_description
from mtl.datasets.folder.reading import PHOTO_SUFFIXES, read_photo
from mtl.datasets.folder.splits import Assigned, Lists
from mtl.geometry import Intrinsics

__all__ = ["FolderIndex", "described", "files_below", "folder_index"]

Stamp = tuple[int, int]
"""Time and size of a file; another one means that it was written again."""


@dataclass(frozen=True, slots=True)
class FolderIndex:
    """The files of a folder by frame; a frame's name is the path of its image below the folder of images, without suffix.

    Attributes:
        photos: image by frame, in the order of names.
        labels: by task, file by frame; of frames that have an image.
        assigned: frames by split.
        homeless: by task, label files of which there is no image.
        doubled: files of which another one has the same name but for its suffix.
        labelled: the frames of each split that have any label; without test frames of its own, "test" is "val".
    """

    description: FolderDescription
    photos: Mapping[str, Path]
    labels: Mapping[str, Mapping[str, Path]]
    assigned: Assigned
    homeless: Mapping[str, tuple[Path, ...]]
    doubled: tuple[Path, ...]
    labelled: Mapping[Split, tuple[str, ...]]

    def known(self, stem: str) -> frozenset[str]:
        """The tasks that a frame has labels of."""
        return frozenset(task for task, files in self.labels.items() if stem in files)

    def intrinsics(self, stem: str, size: tuple[int, int]) -> Intrinsics:
        """The camera of a frame at the size of its image. Raises BuildError: none, or of another shape than the image."""
        camera = self.description.camera
        if isinstance(camera, SharedCamera) and camera.size is None:
            camera = SharedCamera(camera.intrinsics, _size_of(next(iter(self.photos.values()))))
        return camera.of(self.description.root, stem, size)

    def unusable(self) -> str | None:
        """Why the files cannot be used as they are listed, with what to do; None where they can."""
        found = self.description
        for task, files in found.files.items():
            if not (found.root / files.folder).is_dir():
                return f"{found.root / DESCRIPTION}: tasks.{task}.folder: there is no folder {found.root / files.folder}"
        if self.doubled:
            return f"{self.doubled[0]}: another file has the same name but for its suffix; expected one. Take one out"
        return self.assigned.problems[0] if self.assigned.problems else None


def folder_index(root: Path, *, look_again: bool = True) -> FolderIndex:
    """List a folder; once while its description, its lists and its folders stay as they are.

    Args:
        look_again: whether to look if they do; false takes what was seen within the last second, for those who ask often.
    Raises:
        BuildError: `dataset.toml` or a list cannot be read, or there are no images.
    """
    key = (root, root.resolve())
    kept, now = _LISTED.get(key), time.monotonic()
    if kept is not None and not look_again and now - kept.seen < _TRUSTED_S:
        return kept.index
    if kept is not None and all(_stamp(path) == stamp for path, stamp in kept.stamps.items()):
        _LISTED[key] = replace(kept, seen=now)
        return kept.index
    description = described(root)
    stamps = {path: _stamp(path) for path in _watched(description)}
    index = _index(root, description)
    _LISTED[key] = _Listed(index, stamps, now)
    return index


@dataclass(frozen=True, slots=True)
class _Listed:
    """A listing, what it depends on, and when that was last looked at."""

    index: FolderIndex
    stamps: Mapping[Path, Stamp]
    seen: float


_LISTED: dict[tuple[Path, Path], _Listed] = {}
_TRUSTED_S = 1.0


def _watched(description: FolderDescription) -> list[Path]:
    """Files and folders that change where frames or splits do."""
    root, splits = description.root, description.splits
    lists = [splits.train, splits.val, splits.test] if isinstance(splits, Lists) else []
    folders = [description.images, *(files.folder for files in description.files.values())]
    below = [Path(place) for name in folders for place, _, _ in os.walk(root / name, followlinks=True)]
    return [root / DESCRIPTION, *(root / name for name in lists if name), *(root / name for name in folders), *below]


def described(root: Path) -> FolderDescription:
    """The description of a folder; read once while its file stays as it is. Raises BuildError."""
    return _described(root, _stamp(root / DESCRIPTION))


@lru_cache(maxsize=4)
def _described(root: Path, stamp: Stamp) -> FolderDescription:
    return read_description(root)


def _index(root: Path, description: FolderDescription) -> FolderIndex:
    folder = root / description.images
    photos, doubled = files_below(folder, PHOTO_SUFFIXES)
    if not photos:
        what = "no images (.png, .jpg, .jpeg)" if folder.is_dir() else "no such folder"
        raise BuildError(f"{folder} holds no frames: {what}. Put images there, or mend images in {root / DESCRIPTION}")
    labels, homeless = {}, {}
    for task, files in description.files.items():
        found, twice = files_below(root / files.folder, files.suffixes)
        labels[task] = {stem: path for stem, path in found.items() if stem in photos}
        homeless[task] = tuple(path for stem, path in found.items() if stem not in photos)
        doubled += twice
    assigned = description.splits.assigned(root, photos)
    known = {stem for files in labels.values() for stem in files}
    labelled = {split: tuple(stem for stem in stems if stem in known) for split, stems in assigned.stems.items()}
    if not description.splits.tests:
        labelled["test"] = labelled["val"]
    return FolderIndex(description, photos, labels, assigned, homeless, tuple(doubled), labelled)


@lru_cache(maxsize=4)
def _size_of(path: Path) -> tuple[int, int]:
    height, width = read_photo(path).shape[:2]
    return height, width


def files_below(folder: Path, suffixes: Sequence[str]) -> tuple[dict[str, Path], list[Path]]:
    """Files with these suffixes by frame, in the order of names, and those whose frame has another file already."""
    found: dict[str, Path] = {}
    doubled = []
    paths = [Path(place) / name for place, _, names in os.walk(folder, followlinks=True) for name in names]
    for path in sorted(paths):
        ending = next((one for one in suffixes if path.name.lower().endswith(one)), None)
        if path.name.startswith(".") or ending is None:
            continue
        stem = path.relative_to(folder).as_posix()[: -len(ending)]
        if stem in found:
            doubled.append(path)
        else:
            found[stem] = path
    return dict(sorted(found.items())), doubled


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
