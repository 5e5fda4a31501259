"""One JSON of COCO's format as arrays: images, their boxes, classes by number, and what of it cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mtl.datasets.coco.items import CocoItems, read_items
from mtl.datasets.coco.layout import image_folder
from mtl.datasets.data_set import Split
from mtl.datasets.published.index_cache import Advance, Names, Table

__all__ = ["coco_table", "pixel_edges"]

Array = np.ndarray

_LOOKED_FOR = 50
"""Images that the folder of images is looked for by."""


def pixel_edges(bbox: Array) -> Array:
    """Boxes by the image's corner -> by the centres of its pixels, which are at whole numbers.

    Args:
        bbox: (N, 4) left, top, width, height.
    Returns:
        (N, 4) left, top, right, bottom.
    """
    return np.concatenate([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], axis=1) - 0.5


def coco_table(path: Path, root: Path, split: Split, advance: Advance) -> Table:
    """Read a JSON once.

    Returns:
        `names` of the image files; `sizes` (N, 2) int32 H, W; `first` (N + 1,) int64, where the boxes of each image begin;
        `xyxy` (M, 4) float32, within the image; `classes` (M,) int16; `crowd` (M,) bool. Of plain values: `folder` of the
        images, `categories`, `left_out`, and `cut`, boxes that reached more than a pixel out of their image.
    Raises:
        BuildError: no JSON, not of COCO's instances, categories that cannot be told apart, or no images.
    """
    items = read_items(path, advance)
    folder = image_folder(root, path, split, [one.name for one in items.images[:_LOOKED_FOR]])
    rows = _rows_with_files(items, folder)
    arrays, cut = _boxes(items, rows)
    meta = {
        "folder": str(folder),
        "categories": [name for _, name in items.categories],
        "left_out": [
            items.bad_images.result(items.image_count).as_dict(),
            items.bad_boxes.result(items.box_count).as_dict(),
        ],
        "cut": cut,
    }
    return Table({**Names.packed([items.images[row].name for row in rows], "names"), **arrays}, meta)


def _rows_with_files(items: CocoItems, folder: Path) -> list[int]:
    """Rows of images whose files are there."""
    there: dict[Path, frozenset[str]] = {}
    found = []
    for row, image in enumerate(items.images):
        path = folder / image.name
        if path.parent not in there:
            try:
                there[path.parent] = frozenset(os.listdir(path.parent))
            except OSError:
                there[path.parent] = frozenset()
        if path.name in there[path.parent]:
            found.append(row)
        else:
            items.bad_images.add(f"image {image.identity}: there is no file {path}")
    return found


def _boxes(items: CocoItems, rows: list[int]) -> tuple[dict[str, Array], int]:
    """The arrays of the boxes of images in `rows`, and how many were cut; adds those that cannot be used to `items`."""
    place = {items.images[row].identity: number for number, row in enumerate(rows)}
    class_of = {identity: number for number, (identity, _) in enumerate(items.categories)}
    sizes = np.array([(items.images[row].height, items.images[row].width) for row in rows], np.int32).reshape(-1, 2)
    bbox = np.frombuffer(items.bbox, np.float64).reshape(-1, 4)
    owners = np.array([place.get(one, -1) for one in items.owners], np.int64)
    classes = np.array([class_of.get(one, -1) for one in items.kinds], np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        whole = pixel_edges(bbox)
        limits = np.tile(sizes[:, ::-1], 2)[owners] - 0.5 if rows else whole
        inside = np.clip(whole, -0.5, limits)
        some = np.isfinite(whole).all(axis=1) & (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    good = some & (classes >= 0) & (owners >= 0)
    for number in np.flatnonzero(~good):
        reason = _why(items, int(number), bbox[number], known=classes[number] >= 0)
        if reason:
            items.bad_boxes.add(reason)
    order = np.flatnonzero(good)[np.argsort(owners[good], kind="stable")]
    arrays = {
        "sizes": sizes,
        "first": np.searchsorted(owners[order], np.arange(len(rows) + 1)).astype(np.int64),
        "xyxy": inside[order].astype(np.float32),
        "classes": classes[order].astype(np.int16),
        "crowd": np.frombuffer(items.crowd, np.int8)[order] != 0,
    }
    return arrays, int((np.abs(whole - inside)[good] > 1).any(axis=1).sum())


def _why(items: CocoItems, number: int, bbox: Array, *, known: bool) -> str:
    """Why a box cannot be used; "" where its image is what cannot be."""
    owner, kind = items.owners[number], items.kinds[number]
    where = f"annotation {items.ids[number]!r} of image {owner!r}"
    left, top, width, height = bbox.tolist()
    if not items.listed(owner):
        return f"{where}: images does not list that image"
    if not known:
        return f"{where}: category {kind!r} is none of categories"
    if not np.isfinite(bbox).all():
        return f"{where}: its box is not finite"
    if width <= 0 or height <= 0:
        return f"{where}: its box is {width:g} x {height:g} pixels"
    if owner not in items.rows:
        return ""
    image = items.images[items.rows[owner]]
    right, bottom = left + width, top + height
    if right <= 0 or bottom <= 0 or left >= image.width or top >= image.height:
        size = f"{image.width} x {image.height}"
        return f"{where}: its box at {left:g}, {top:g} of {width:g} x {height:g} is outside the image of {size} pixels"
    return ""
