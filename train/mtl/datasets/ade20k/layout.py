"""Where the files of ADE20K's two releases are: images, masks, and the category of each scene."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_mtl.errors import BuildError
from mtl.datasets.data_set import Split
from mtl.datasets.folder.reading import PHOTO_SUFFIXES

__all__ = ["SCENES", "Form", "Pair", "folders", "form_of", "image_root", "pairs", "scene_list"]

Form = Literal["challenge", "full"]

SCENES = "sceneCategories.txt"
_SPLITS: Mapping[Split, tuple[str, str]] = {"train": ("training", "ADE_train_"), "val": ("validation", "ADE_val_")}
_SEG = "_seg.png"
_NESTED = ("ADE20K_2021_17_01", "ADEChallengeData2016", "ADE20K_2016_07_26")
"""Folders that the archives unpack to."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask, below `image_root`'s parent; `mask` is empty where there is none, `scene` where none is known."""

    image: str
    mask: str
    scene: str


def image_root(root: Path) -> Path:
    """The folder `images`, of `root` or of what an archive unpacked in it. Raises BuildError where there is none."""
    for place in (root, *(root / name for name in _NESTED)):
        for images in (place / "images" / "ADE", place / "images"):
            if images.is_dir():
                return images
    raise BuildError(
        f"{root} has no folder images: expected ADEChallengeData2016 (images/training, annotations/training) or the full "
        "release (images/ADE/training). Mend data.root"
    )


def form_of(images: Path) -> Form:
    """Which release it is: the challenge has its masks in a folder beside the images."""
    return "challenge" if images.name == "images" and (images.parent / "annotations").is_dir() else "full"


def folders(images: Path, split: Split) -> Iterator[tuple[Path, list[str]]]:
    """Folders that may hold images of a split, with the names in each; folders of single instances are passed over."""
    word, prefix = _SPLITS[split]
    divided = any((images / one).is_dir() for one, _ in _SPLITS.values())
    top = images / word if divided else images
    for place, below, names in os.walk(top):
        below[:] = sorted(name for name in below if not name.startswith("ADE_"))
        yield Path(place), sorted(names if divided else (name for name in names if name.startswith(prefix)))


def pairs(images: Path, split: Split, scenes: Mapping[str, str]) -> Iterator[Pair]:
    """Images of a split with what labels them, in the order of their names.

    Args:
        scenes: of the challenge's list, by the image's name; the full release has them in its folders.
    """
    form, word = form_of(images), _SPLITS[split][0]
    base = images.parent
    for place, names in folders(images, split):
        inside = place.relative_to(images)
        masks = base / "annotations" / inside if form == "challenge" else place
        there = set(os.listdir(masks)) if masks.is_dir() else set()
        kind = "/".join(inside.parts[2:] if inside.parts[:1] == (word,) else inside.parts[1:])
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in PHOTO_SUFFIXES or (form == "full" and suffix.lower() == ".png"):
                continue
            mask = f"{stem}.png" if form == "challenge" else f"{stem}{_SEG}"
            mask = str((masks / mask).relative_to(base)) if mask in there else ""
            scene = scenes.get(stem, "") if form == "challenge" else kind
            yield Pair(str((place / name).relative_to(base)), mask, scene)


def scene_list(images: Path) -> dict[str, str]:
    """The challenge's list of scene categories, by the image's name; empty without that file. Raises BuildError."""
    path = images.parent / SCENES
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise BuildError(f"{path} cannot be read ({exc}): expected an image's name and its category a line") from exc
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2:
            raise BuildError(f"{path}, line {number}: expected an image's name and its category, found {line[:60]!r}. Mend it")
        if found.setdefault(parts[0], parts[1]) != parts[1]:
            raise BuildError(f"{path}, line {number}: {parts[0]} has another category before. Mend it, or take a line out")
    return found
