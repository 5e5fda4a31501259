"""A folder of one's own as a data set: its frames, and which of them feed which stage and split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import ClassSpec, Specs
from mtl.datasets.data_set import DEFAULT_ROOT, DataSet, Split
from mtl.datasets.folder.camera import SharedCamera
from mtl.datasets.folder.description import DESCRIPTION, FolderDescription
from mtl.datasets.folder.index import FolderIndex, described, folder_index
from mtl.datasets.folder.reading import read_photo
from mtl.datasets.folder.splits import SPLITS
from mtl.datasets.folder.truth_files import JsonFiles
from mtl.datasets.frame import Frame

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = ["Folder", "FolderFrames", "FolderRequest", "read_frame"]


class Folder(DataSet):
    """See the module. Every split has all its frames with a label, the training split those without too where that is wanted
    (`data.unlabelled`); a stage may train on fewer (`stage.train`)."""

    name = "folder"
    frames: ClassVar[str] = "frames of a folder"

    def holds(self, root: Path) -> bool:
        return (root / DESCRIPTION).is_file()

    def title(self, data: DataSettings) -> str:
        return _described(data).title

    def licence(self, data: DataSettings) -> str:
        return _described(data).licence

    def redistributable(self, data: DataSettings) -> bool:
        return _described(data).redistributable

    def one_camera(self, data: DataSettings) -> bool:
        return isinstance(_described(data).camera, SharedCamera)

    def pseudo_labels(self, data: DataSettings) -> Mapping[str, Any]:
        from mtl.pseudo_labels.lineage import lineage

        return lineage(_indexed(data))

    def tasks(self, data: DataSettings) -> Specs:
        return _described(data).tasks

    def train_frames(self, data: DataSettings, stage: Stage) -> FolderRequest:
        return FolderRequest(data.root, "train", first=stage.train, unlabelled=data.unlabelled)

    def held_out_frames(self, data: DataSettings, split: Split) -> FolderRequest:
        return FolderRequest(data.root, split)

    def train_count(self, data: DataSettings) -> int:
        _described(data)
        index = folder_index(Path(data.root), look_again=False)  # a run asks at every step
        return len(index.assigned.stems["train"] if data.unlabelled else index.labelled["train"])

    def counts(self, data: DataSettings) -> str:
        index = _indexed(data)
        train, val, test = (len(index.labelled[split]) for split in SPLITS)
        return f"{train} training, {val} validation, {test} test" + (" (the same)" if self.validates_on_test(data) else "")

    def validates_on_test(self, data: DataSettings) -> bool:
        return not _described(data).splits.tests

    def problem(self, data: DataSettings) -> str | None:
        if data.validation_from_train:
            return 'data.validation_from_train is for data.kind "nyuv2"; a folder has val in [splits] of its dataset.toml'
        if data.tasks:
            return 'data.tasks is for data.kind "rooms" and "nyuv2"; of a folder, model.tasks names those that are trained'
        return None


@dataclass(frozen=True, slots=True)
class FolderRequest:
    """Frames of a folder by description.

    Attributes:
        first: only this many frames, chosen by a hash of their names (0: all).
        unlabelled: whether frames without any label are among them.
    """

    root: str
    split: Split
    first: int = 0
    unlabelled: bool = False

    def open(self, *, workers: int = 1, progress: bool = False) -> FolderFrames:
        """The frames; files are read when a frame is asked for. `workers` and `progress` are of no use here.

        Raises:
            BuildError: the folder cannot be used, or no frame of the split has a label.
        """
        root = Path(self.root)
        index = folder_index(root)
        problem = index.unusable()
        if problem is not None:
            raise BuildError(f"{problem}. Run: python train/validate_dataset.py {root}")
        stems = index.assigned.stems[self.split] if self.unlabelled else index.labelled[self.split]
        if not stems:
            there = len(index.assigned.stems[self.split])
            raise BuildError(
                f"{root} has no frame to {_PURPOSES[self.split]}: {self.split} has {there} images, none with a label. "
                "Mend [splits] in dataset.toml (other shares, another seed, or lists), or label more"
            )
        return FolderFrames(index, sorted(sorted(stems, key=_hashed)[: self.first]) if self.first else stems)


class FolderFrames:
    """Frames of a folder, each with the truths that there are."""

    def __init__(self, index: FolderIndex, stems: Sequence[str]) -> None:
        self._index, self.stems = index, tuple(stems)
        self.tasks: Specs = index.description.tasks

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`. Raises BuildError naming the file that cannot be used."""
        return read_frame(self._index, self.stems[index])

    def known(self, index: int) -> frozenset[str]:
        """The tasks that frame `index` has truths of; opens no file."""
        return self._index.known(self.stems[index])

    def listed_classes(self, task: str) -> np.ndarray | None:
        """See `mtl.datasets.frame.listed_classes`. Raises BuildError naming the file that cannot be used."""
        files, paths = self._index.description.files[task], self._index.labels[task]
        if not isinstance(files, JsonFiles) or not isinstance(files.spec, ClassSpec):
            return None
        anywhere = (1, 1)  # the class of a frame does not depend on its size
        found = [files.stored(paths[stem], anywhere) if stem in paths else -1 for stem in self.stems]
        return np.array(found, np.int64)


def read_frame(index: FolderIndex, stem: str) -> Frame:
    """A frame by its name. Raises BuildError naming the file that cannot be used, what was expected and found."""
    description = index.description
    image = read_photo(index.photos[stem])
    size = (image.shape[0], image.shape[1])
    truths: dict[str, Any] = {}
    for task, files in description.files.items():
        path = index.labels[task].get(stem)
        if path is None:
            continue
        truths[task] = files.truth(files.stored(path, size), path)
    return Frame(image, truths, index.intrinsics(stem, size))


def _described(data: DataSettings) -> FolderDescription:
    if data.root == DEFAULT_ROOT:
        raise BuildError(f"data.root is {DEFAULT_ROOT}, where rooms are: name your own folder, --data.root DIR")
    return described(Path(data.root))


def _indexed(data: DataSettings) -> FolderIndex:
    _described(data)
    return folder_index(Path(data.root))


def _hashed(stem: str) -> str:
    return hashlib.sha256(stem.encode()).hexdigest()


_PURPOSES = {"train": "train on", "val": "validate on", "test": "test on"}
