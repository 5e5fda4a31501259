"""Where the files of ImageNet's classification data are: class folders, flat validation images, lists, names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edge_mtl.errors import BuildError
from mtl.datasets.folder.reading import PHOTO_SUFFIXES

__all__ = [
    "NAMES",
    "class_folders",
    "class_names",
    "flat_images",
    "flat_labels",
    "images_in",
    "places_of_lists",
    "split_folder",
    "val_list",
]

NAMES = "LOC_synset_mapping.txt"
_SOLUTION, _CAFFE = "LOC_val_solution.csv", "val.txt"
_DEVKIT = "ILSVRC2012_validation_ground_truth.txt"
_NESTED = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC")
_WORDS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}


def split_folder(root: Path, split: str) -> Path | None:
    """The folder of a split; None where there is none."""
    places = (root / nested / word for nested in _NESTED for word in _WORDS[split])
    return next((place for place in places if place.is_dir()), None)


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted: class i is the i-th, as the synsets of ILSVRC2012 are by custom."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as exc:
        raise BuildError(f"{folder} cannot be read ({exc.strerror or exc}). Mend data.root") from exc


def images_in(folder: Path) -> Iterator[str]:
    """Names of the images in a folder, sorted."""
    for name in sorted(os.listdir(folder)):
        if not name.startswith(".") and name.lower().endswith(PHOTO_SUFFIXES):
            yield name


def class_names(root: Path, folders: list[str]) -> tuple[str, ...]:
    """A name for each class folder: the first word of `LOC_synset_mapping.txt` where that is there, with the folder's name
    where two classes share it; else the folder's name.

    Raises:
        BuildError: the file cannot be read, or lacks a class.
    """
    path = root / NAMES
    if not path.is_file():
        return tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in folders)
    words = {key: rest.split(",")[0].strip() for key, _, rest in (line.strip().partition(" ") for line in _lines(path))}
    lacking = next((name for name in folders if not words.get(name)), None)
    if lacking is not None:
        raise BuildError(f"{path} has no line of {lacking}: expected a class folder's name and its words a line. Add it")
    chosen = [words[name] for name in folders]
    times = Counter(chosen)
    return tuple(word if times[word] == 1 else f"{word} ({name})" for word, name in zip(chosen, folders, strict=True))


def places_of_lists(root: Path, folder: Path) -> list[Path]:
    """Where the list of a flat folder's classes may be; the first that is there counts."""
    return [place / name for name in (_SOLUTION, _CAFFE) for place in _places(root, folder)]


def _places(root: Path, folder: Path) -> tuple[Path, ...]:
    return root, folder, folder.parent, root / "ILSVRC"


def val_list(root: Path, folder: Path) -> Path:
    """The list of classes of the flat folder of validation images.

    Raises:
        BuildError: there is none, or only that of the devkit, whose numbers are not those of sorted folders.
    """
    found = next((path for path in places_of_lists(root, folder) if path.is_file()), None)
    if found is not None:
        return found
    places = (*_places(root, folder), root / "data")
    devkit = next((place / _DEVKIT for place in places if (place / _DEVKIT).is_file()), None)
    if devkit is not None:
        raise BuildError(
            f"{devkit} numbers classes as meta.mat of the development kit does, not by sorted synsets, and cannot be used "
            f"alone. Put {_SOLUTION} (image, synset) or {_CAFFE} (image, number of the sorted synset from 0) into {root}, "
            "or the images into class folders"
        )
    raise BuildError(
        f"{folder} has images without class folders, and there is no list of their classes: expected {_SOLUTION} or {_CAFFE} "
        f"in {root}. Put it there, or the images into class folders"
    )


def flat_labels(path: Path, folders: list[str]) -> dict[str, int]:
    """Class by the name of the image without its suffix. Raises BuildError naming the line."""
    place = {name: number for number, name in enumerate(folders)}
    solution = path.name == _SOLUTION
    found: dict[str, int] = {}
    for number, line in enumerate(_lines(path), 1):
        if solution and number == 1 and line.startswith("ImageId"):
            continue
        image, _, rest = line.partition("," if solution else " ")
        word = rest.split()[0] if rest.split() else ""
        label = place.get(word) if solution else int(word) if word.isdecimal() and int(word) < len(folders) else None
        if not image or label is None:
            what = "a class folder of training" if solution else f"a number below {len(folders)}"
            raise BuildError(f"{path}, line {number}: expected an image and {what}, found {line[:60]!r}. Mend it")
        stem = os.path.splitext(image)[0]
        if found.setdefault(stem, label) != label:
            raise BuildError(f"{path}, line {number}: {image} has another class before. Take one line out")
    return found


def flat_images(folder: Path) -> bool:
    """Whether a folder holds images itself."""
    return next(images_in(folder), None) is not None


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise BuildError(f"{path} cannot be read ({exc}): expected text of UTF-8. Copy it again") from exc
    return [line.strip() for line in lines if line.strip()]
