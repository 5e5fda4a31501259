"""Where the files of a data set in COCO's format are: the JSON of each split, and the folder of its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_mtl.errors import BuildError
from mtl.datasets.data_set import Split

__all__ = ["annotation_file", "image_folder", "watched_paths"]

_WORDS: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_OTHERS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")
"""Files of COCO that are no instances."""


def annotation_file(root: Path, split: Split, named: Mapping[str, str]) -> Path | None:
    """The JSON of a split; None where there is none.

    Args:
        named: by split, the file that settings name, below `root`.
    Raises:
        BuildError: a named file is not there, or several files may be meant.
    """
    if split in named:
        path = root / named[split]
        if not path.is_file():
            raise BuildError(f"data.annotations.{split}: there is no file {path}. Name a JSON file below data.root")
        return path
    for word in _WORDS[split]:
        for folder, pattern in (
            (root / "annotations", f"instances_{word}*.json"),
            (root / "annotations", f"*{word}*.json"),
            (root, f"*{word}*.json"),
            (root / word, "_annotations.coco.json"),
        ):
            found = [path for path in sorted(folder.glob(pattern)) if not path.name.startswith(_OTHERS)]
            if len(found) > 1:
                listed = ", ".join(str(path.relative_to(root)) for path in found)
                raise BuildError(f"{root} has several files of {split}: {listed}. Name one: data.annotations.{split} = FILE")
            if found:
                return found[0]
    return None


def image_folder(root: Path, annotations: Path, split: Split, names: list[str]) -> Path:
    """The folder that the file names of a JSON are below. Raises BuildError where no image is found, or none is named.

    Args:
        names: some of the file names.
    """
    if not names:
        raise BuildError(f"{annotations} lists no image that can be used: expected some in images. Name another file")
    own = annotations.stem.removeprefix("instances_")
    below = [own, f"images/{own}", *_WORDS[split], *(f"images/{word}" for word in _WORDS[split]), "images", ""]
    tried = list(dict.fromkeys([*(root / one for one in below), annotations.parent]))
    for folder in tried:
        if any((folder / name).is_file() for name in names):
            return folder
    listed = ", ".join(str(folder) for folder in tried if folder.is_dir())
    raise BuildError(
        f"{annotations} names images such as {names[0]!r}, and none of the first {len(names)} is in {listed}. "
        f"Put the images into {root / own}, or mend data.root"
    )


def watched_paths(root: Path, annotations: Path) -> list[Path]:
    """The JSON, and the folders in which images may come and go."""
    below = [folder for place in (root, root / "images") if place.is_dir() for folder in sorted(place.iterdir())]
    return [annotations, root, *(folder for folder in below if folder.is_dir())]
