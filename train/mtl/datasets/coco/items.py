"""What a JSON of COCO's format holds, item by item: images, categories, annotations, and items that cannot be used."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edge_mtl.errors import BuildError
from mtl.datasets.published.json_stream import top_level_items
from mtl.datasets.published.left_out import Tally

__all__ = ["CocoItems", "ImageItem", "read_items"]

_MOST_CLASSES = 4096
_KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True, slots=True)
class ImageItem:
    """An image as the JSON has it; `name` is its file below the folder of images."""

    identity: Any
    name: str
    height: int
    width: int


class CocoItems:
    """All items of a JSON that can be understood.

    Attributes:
        images: in the order of the file; `rows` has the place of each by its id.
        categories: (id, name), by rising id.
        bbox: four numbers an annotation; `ids`, `owners`, `kinds` and `crowd` have one entry for each.
        bad_images, bad_boxes: what cannot be used so far, of `image_count` and `box_count`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images: list[ImageItem] = []
        self.rows: dict[Any, int] = {}
        self.categories: list[tuple[Any, str]] = []
        self.bbox = array("d")
        self.ids: list[Any] = []
        self.owners: list[Any] = []
        self.kinds: list[Any] = []
        self.crowd = array("b")
        self.bad_images, self.bad_boxes = Tally("images"), Tally("boxes")
        self.image_count = self.box_count = 0
        self._listed: set[Any] = set()
        self._seen: set[Any] = set()
        self._found: set[str] = set()

    def add(self, key: str, item: Any) -> None:
        """One item of an array of the outermost object. Raises BuildError where the file is of another format."""
        self._found.add(key)
        if key not in _KEYS:
            return
        if not isinstance(item, Mapping):
            raise self.other_format(f"{key} holds {str(item)[:40]!r}")
        {"images": self._image, "categories": self._category, "annotations": self._annotation}[key](item)

    def finish(self) -> None:
        """After the last item. Raises BuildError where something is not there at all, or categories cannot be told apart."""
        missing = [key for key, found in (("images", self.image_count), ("categories", len(self.categories))) if not found]
        if missing:
            keys = ", ".join(sorted(self._found)) or "none"
            raise self.other_format(f"it has no {' and no '.join(missing)}; the keys that hold something are {keys}")
        for what, values in zip(("id", "name"), zip(*self.categories, strict=True), strict=True):
            twice = next((one for one in values if values.count(one) > 1), None)
            if twice is not None:
                raise BuildError(f"{self.path}: several categories have the {what} {twice!r}: expected one. Mend categories")
        if len({type(identity) for identity, _ in self.categories}) > 1 or len(self.categories) > _MOST_CLASSES:
            raise BuildError(f"{self.path}: expected at most {_MOST_CLASSES} categories, their ids numbers. Mend categories")
        self.categories.sort()

    def listed(self, owner: Any) -> bool:
        """Whether an image of that id is in the file, be it usable or not."""
        return owner in self._listed

    def other_format(self, found: str) -> BuildError:
        """The error that says so."""
        return BuildError(
            f"{self.path} is not in COCO's format of instances: {found}. Expected images with id, file_name, height and width, "
            "annotations with image_id, category_id and bbox, and categories with id and name. Name another file: "
            "data.annotations"
        )

    def _image(self, item: Mapping[str, Any]) -> None:
        self.image_count += 1
        identity, name, height, width = (item.get(key) for key in ("id", "file_name", "height", "width"))
        if not _is_id(identity) or not isinstance(name, str) or not name:
            if not self._listed:
                raise self.other_format(f"an image has the id {identity!r} and the file_name {name!r}")
            self.bad_images.add(f"an image has the id {identity!r} and the file_name {name!r}")
            return
        twice = identity in self._listed
        self._listed.add(identity)
        if twice:
            self.bad_images.add(f"image {identity} ({name}): another image has its id")
        elif not _inside(name):
            self.bad_images.add(f"image {identity}: {name!r} is no file within the folder of images")
        elif not _is_side(height) or not _is_side(width):
            self.bad_images.add(f"image {identity} ({name}): height {height!r} and width {width!r}, expected pixels")
        else:
            self.rows[identity] = len(self.images)
            self.images.append(ImageItem(identity, name, int(height or 0), int(width or 0)))

    def _category(self, item: Mapping[str, Any]) -> None:
        identity, name = item.get("id"), item.get("name")
        if not _is_id(identity) or not isinstance(name, str) or not name.strip():
            raise self.other_format(f"a category has the id {identity!r} and the name {name!r}")
        self.categories.append((identity, name))

    def _annotation(self, item: Mapping[str, Any]) -> None:
        self.box_count += 1
        identity, bbox = item.get("id"), item.get("bbox")
        if bbox is None and not self.ids:
            raise self.other_format(f"an annotation has no bbox, but {', '.join(sorted(item))}")
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(one) for one in bbox):
            self.bad_boxes.add(f"annotation {identity!r}: the bbox {str(bbox)[:60]} is not four numbers")
            return
        if not _is_id(item.get("image_id")) or not _is_id(item.get("category_id")):
            self.bad_boxes.add(f"annotation {identity!r}: image_id or category_id is missing")
            return
        if _is_id(identity):
            if identity in self._seen:
                self.bad_boxes.add(f"annotation {identity}: another annotation has its id")
                return
            self._seen.add(identity)
        try:
            self.bbox.extend(bbox)
        except OverflowError:
            self.bbox = self.bbox[: 4 * len(self.ids)]
            self.bad_boxes.add(f"annotation {identity!r}: the bbox {str(bbox)[:60]} is too large")
            return
        self.ids.append(identity)
        self.owners.append(item["image_id"])
        self.kinds.append(item["category_id"])
        self.crowd.append(bool(item.get("iscrowd")))


def read_items(path: Path, advance: Callable[[int, int], None]) -> CocoItems:
    """Read a JSON, told how far it is in bytes. Raises BuildError where it is not of this format."""
    total = path.stat().st_size
    items = CocoItems(path)
    for key, item in top_level_items(path, on_bytes=lambda done: advance(done, total)):
        items.add(key, item)
    items.finish()
    return items


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20


def _inside(name: str) -> bool:
    """Whether a file name stays within its folder, and can be one."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name
