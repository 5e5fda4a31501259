"""ImageNet's classification data as a data set, and any folder of class folders: one class for each image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.datasets.data_set import Split
from mtl.datasets.imagenet.layout import (
    NAMES,
    class_folders,
    class_names,
    flat_images,
    flat_labels,
    images_in,
    places_of_lists,
    split_folder,
    val_list,
)
from mtl.datasets.published.data_set import PublishedSet
from mtl.datasets.published.frames import TableListing, task_of
from mtl.datasets.published.index_cache import Advance, Names, Table, cached_table, shown_name
from mtl.datasets.published.left_out import Tally

if TYPE_CHECKING:
    from mtl.settings import DataSettings

__all__ = ["TASK", "ImageNet", "ImageNetListing"]

TASK = "category"
"""The name of its task where settings give no other."""

_MOST_CLASSES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class ImageNetListing(TableListing):
    """The images of a split, each with its class.

    Attributes:
        folder: of the split.
        table: `names` below the folder, `classes` (N,) int16; plain: `left_out`.
        classes: names by index.
    """

    folder: Path
    table: Table
    names: Names
    classes: tuple[str, ...]

    @property
    def where(self) -> str:
        return str(self.folder)

    @property
    def specs(self) -> Specs:
        return {TASK: task_of("class", TASK, self.classes, where=self.where)}

    def image(self, number: int) -> Path:
        return self.folder / self.names[number]

    def known(self, number: int) -> frozenset[str]:
        return frozenset((TASK,))

    def truths(self, number: int, size: tuple[int, int]) -> dict[str, Any]:
        return {TASK: int(self.table.arrays["classes"][number])}

    def listed_classes(self, task: str) -> np.ndarray | None:
        return self.table.arrays["classes"].astype(np.int64) if task == TASK else None


class ImageNet(PublishedSet):
    """See the module and `mtl.datasets.imagenet.layout`. Without folders of splits, class folders are all for training."""

    name = "imagenet"
    frames: ClassVar[str] = "ImageNet"

    def title(self, data: DataSettings) -> str:
        return "ImageNet" if self._is_imagenet(data) else f"class folders of {shown_name(self.root_of(data).resolve().name)}"

    def licence(self, data: DataSettings) -> str:
        if not self._is_imagenet(data):
            return "none is stated by folders of images: see the terms of whoever made them"
        return "images of others, for non-commercial research and education"

    def holds(self, root: Path) -> bool:
        folder = split_folder(root, "train")
        if folder is None:
            return False
        return any(flat_images(folder / name) for name in class_folders(folder)[:3])

    def has(self, data: DataSettings, split: Split) -> bool:
        root = self.root_of(data)
        if split == "train":
            return True
        folder = split_folder(root, split)
        return folder is not None and (split == "val" or bool(class_folders(folder)))

    def find(self, data: DataSettings, split: Split) -> ImageNetListing:
        root = self.root_of(data)
        train = _train_folder(root)
        folders = class_folders(train)
        if not 2 <= len(folders) <= _MOST_CLASSES:
            raise BuildError(
                f"{train} should have 2 to {_MOST_CLASSES} class folders with images in them, as train/n01440764/*.JPEG; found "
                f"{len(folders)}. Mend data.root"
            )
        folder = train if split == "train" else _held_out_folder(root, split)
        table = cached_table(
            f"imagenet-{split}",
            folder,
            lambda: _watched(root, folder),
            lambda advance: _table(root, folder, folders, advance),
            options="|".join(map(shown_name, folders)),
        )
        listing = ImageNetListing(folder, table, Names.of(table, "names"), class_names(root, folders))
        if not len(listing):
            raise BuildError(f"{folder} has no images (.JPEG, .jpg, .png) in class folders. Mend data.root")
        return listing

    def _is_imagenet(self, data: DataSettings) -> bool:
        """Whether classes are called as WordNet's synsets are: n and eight digits."""
        names = class_folders(_train_folder(self.root_of(data)))
        return all(len(name) == 9 and name[0] == "n" and name[1:].isdecimal() for name in names)


def _train_folder(root: Path) -> Path:
    return split_folder(root, "train") or root


def _held_out_folder(root: Path, name: str) -> Path:
    folder = split_folder(root, name)
    if folder is None:
        raise BuildError(
            f"{root} has no folder {name}: expected {name}/CLASS/*.JPEG beside train, or the flat folder of ILSVRC2012. "
            "Or set training frames aside: data.validation_from_train"
        )
    return folder


def _watched(root: Path, folder: Path) -> list[Path]:
    return [folder, *(folder / name for name in class_folders(folder)), *places_of_lists(root, folder), root / NAMES]


def _table(root: Path, folder: Path, folders: list[str], advance: Advance) -> Table:
    """The images of a split: in class folders, or in one folder with a list."""
    own = class_folders(folder)
    bad = Tally("images")
    names: list[str] = []
    classes: list[int] = []
    if own or not flat_images(folder):
        place = {name: number for number, name in enumerate(folders)}
        strange = [name for name in own if name not in place]
        if strange:
            raise BuildError(
                f"{folder / strange[0]} is a class that training has no folder of: expected those of training, "
                f"{', '.join(map(shown_name, folders[:3]))}, ... Take it out, or add it to training"
            )
        for number, name in enumerate(own):
            found = [f"{name}/{one}" for one in images_in(folder / name)]
            names += found
            classes += [place[name]] * len(found)
            advance(number + 1, len(own))
    else:
        path = val_list(root, folder)
        labels = flat_labels(path, folders)
        for name in images_in(folder):
            label = labels.get(name.rpartition(".")[0])
            if label is None:
                bad.add(f"{folder / name}: {path} does not have it")
            else:
                names.append(name)
                classes.append(label)
    left_out = [bad.result(len(names) + len(bad)).as_dict()]
    return Table({**Names.packed(names, "names"), "classes": np.array(classes, np.int16)}, {"left_out": left_out})
