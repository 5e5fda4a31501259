"""Where the files of BDD100K are: images, files of labels and masks of each split, as its archives unpack."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.errors import BuildError
from mtl.datasets.bdd100k.classes import DRIVABLE, LANE, MAPS, OBJECTS, PIXELS
from mtl.datasets.data_set import Split
from mtl.datasets.folder.reading import PHOTO_SUFFIXES

__all__ = [
    "GROUPS",
    "SPLITS",
    "TERMS",
    "LabelFile",
    "data_root",
    "group_of",
    "has_masks",
    "image_folder",
    "label_files",
    "label_places",
    "mask_folder",
    "masks",
    "photos",
]

TERMS = (
    "for education, research and not-for-profit purposes; commercial use only by members of Berkeley DeepDrive and BAIR "
    "Commons and their affiliates"
)
"""What its licence allows, in short (doc.bdd100k.com/license.html)."""

GROUPS = ("100k", "10k")
"""Its two sets of images; the second is no part of the first, though they share many."""

SPLITS: tuple[Split, ...] = ("train", "val")
"""Those with labels."""

_NESTED = "bdd100k"
_FOLDERS: Mapping[str, tuple[str, str]] = {DRIVABLE: ("drivable", "100k"), LANE: ("lane", "100k"), PIXELS: ("sem_seg", "10k")}
"""Of tasks of labels: their folder below labels/, and which images they are of."""


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Labels as JSON.

    Attributes:
        path: a file of many frames, or a folder with one file for each.
        group: which images they are of.
        tasks: which tasks are read from it.
        sure: whether it labels all of these for each of its frames, or those only that some label of it is of.
    """

    path: Path
    group: str
    tasks: frozenset[str]
    sure: bool


def data_root(root: Path) -> Path:
    """The folder with images/ and labels/: `root`, or the folder that the archives unpack to in it.

    Raises:
        BuildError: there is none.
    """
    for place in (root, root / _NESTED):
        if (place / "images").is_dir() and any((place / "images" / group).is_dir() for group in GROUPS):
            return place
    raise BuildError(
        f"{root} has no images of BDD100K: expected images/100k/train or images/10k/train, and labels/, as its archives from "
        f"bdd-data.berkeley.edu unpack. They are {TERMS}. Mend data.root"
    )


def image_folder(root: Path, group: str, split: Split) -> Path:
    """The images of a split; it need not be there."""
    return root / "images" / group / split


def mask_folder(root: Path, task: str, split: Split) -> Path:
    """The masks of a task of labels; it need not be there."""
    return root / "labels" / _FOLDERS[task][0] / "masks" / split


def has_masks(root: Path, task: str, split: Split) -> bool:
    """Whether it has any."""
    try:
        with os.scandir(mask_folder(root, task, split)) as entries:
            return any(entry.name.endswith(".png") for entry in entries)
    except OSError:
        return False


def group_of(task: str) -> str:
    """Which images a task of labels is of."""
    return _FOLDERS[task][1]


def label_files(root: Path, split: Split) -> Iterator[LabelFile]:
    """The JSON files to read for a split: outlines only of tasks that there are no masks of."""
    wanted = {task for task in MAPS if not has_masks(root, task, split)}
    for task in MAPS:
        if task not in wanted:
            continue
        folder, group = _FOLDERS[task]
        named = (root / "labels" / folder / form / f"{folder}_{split}.json" for form in ("polygons", "rles"))
        found = next((path for path in named if path.is_file()), None)
        if found is not None:
            wanted.discard(task)
            yield LabelFile(found, group, frozenset((task,)), sure=True)
    detection = root / "labels" / "det_20" / f"det_{split}.json"
    if detection.is_file():
        yield LabelFile(detection, "100k", frozenset((OBJECTS,)), sure=True)
    more = frozenset(task for task in wanted if group_of(task) == "100k")
    own = frozenset(() if detection.is_file() else (OBJECTS,))
    if not more | own:
        return
    combined = root / "labels" / f"bdd100k_labels_images_{split}.json"
    single = root / "labels" / "100k" / split
    if combined.is_file():
        yield LabelFile(combined, "100k", more | own, sure=False)
    elif single.is_dir():
        yield LabelFile(single, "100k", more | own, sure=False)


def label_places(root: Path, split: Split) -> list[Path]:
    """Files and folders that labels and images of a split may come to and go from."""
    labels = root / "labels"
    places = [image_folder(root, group, one) for group in GROUPS for one in SPLITS]
    for folder, _ in _FOLDERS.values():
        places.append(labels / folder / "masks" / split)
        places += [labels / folder / form / f"{folder}_{split}.json" for form in ("polygons", "rles")]
    return [
        *places,
        labels / "det_20" / f"det_{split}.json",
        labels / f"bdd100k_labels_images_{split}.json",
        labels / "100k" / split,
    ]


def photos(folder: Path) -> dict[str, str]:
    """File names of images by their stems; empty without the folder."""
    return _by_stem(folder, PHOTO_SUFFIXES)


def masks(folder: Path) -> dict[str, str]:
    """File names of masks by the stems of their images; older archives have "_drivable_id" or "_train_id" behind these.

    Empty without the folder.
    """
    found = _by_stem(folder, (".png",))
    return {stem.removesuffix("_drivable_id").removesuffix("_train_id"): name for stem, name in found.items()}


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise BuildError(f"{folder} cannot be listed ({exc.strerror or exc}). Expected a folder of images. Mend it") from exc
    parts = (os.path.splitext(name) for name in names)
    return {stem: stem + suffix for stem, suffix in parts if suffix.lower() in suffixes}
