"""The labels of a split as arrays: which images have which, their boxes, attributes and outlines, and the masks beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtl.datasets.bdd100k.classes import ATTRIBUTES, MAPS, OBJECTS, scalabel_edges
from mtl.datasets.bdd100k.items import LabelItems, bit_of
from mtl.datasets.bdd100k.layout import GROUPS, SPLITS, group_of, image_folder, label_files, mask_folder, masks, photos
from mtl.datasets.data_set import Split
from mtl.datasets.published.index_cache import Advance, Names, Table

__all__ = ["split_table"]

Array = np.ndarray


def split_table(root: Path, split: Split, advance: Advance) -> Table:
    """Read the labels of a split once. Training images that the other set of images holds out are left out.

    Returns:
        Of images with any label, in the order of their paths: `names`, below images/; `mask_TASK`, the names of masks, "" for
        none; `labelled` (N,) uint8, bits of the tasks that JSON labels (`bit_of`); `attributes` (N, 3) int8, -1 unknown.
        `first` (N + 1,) int64, where the boxes of each image begin; `xyxy` (M, 4) float32, not cut; `classes` (M,) int16;
        `crowd` (M,) bool. `shape_first` (N + 1,) int64, where its shapes begin; `shape_tasks`, `shape_values`, `shape_forms`,
        `shape_closed` (S,); `point_first` (S + 1,) int64, `points` (P, 2) float32, `types` (P,) uint8; `codes`, `code_sizes`
        (S, 2). Of plain values: `tasks` that some image has, `left_out`, `bare` images without labels, `elsewhere` held out.
    Raises:
        BuildError: files of labels that cannot be read, or are of another format.
    """
    items = LabelItems()
    for file in label_files(root, split):
        items.read(file, advance)
    there = {group: photos(image_folder(root, group, split)) for group in GROUPS}
    covers = {task: masks(mask_folder(root, task, split)) for task in MAPS}
    files = {f"{group}/{stem}": name for group, names in there.items() for stem, name in names.items()}
    held_out = _held_out(root, split)
    keys: list[str] = []
    bare = elsewhere = 0
    for key in sorted(files):
        group, _, stem = key.partition("/")
        if key not in items.rows and not any(group == group_of(task) and stem in covers[task] for task in MAPS):
            bare += 1
        elif stem in held_out[group]:
            elsewhere += 1
        else:
            keys.append(key)
    for key in items.keys:
        if key not in files:
            group, _, stem = key.partition("/")
            items.bad_frames.add(f"{image_folder(root, group, split)} has no image {stem}, which has labels")
    return _packed(items, keys, files, covers, split, {"bare": bare, "elsewhere": elsewhere})


def _held_out(root: Path, split: Split) -> dict[str, set[str]]:
    """Of each set of images, stems of those training images that are validation images of another set."""
    found: dict[str, set[str]] = {group: set() for group in GROUPS}
    if split == "train":
        for group in GROUPS:
            for other in GROUPS:
                if other != group:
                    found[group] |= set(photos(image_folder(root, other, SPLITS[1])))
    return found


def _packed(
    items: LabelItems,
    keys: list[str],
    files: dict[str, str],
    covers: dict[str, dict[str, str]],
    split: Split,
    meta: dict[str, Any],
) -> Table:
    rows = np.array([items.rows.get(key, -1) for key in keys], np.int64)
    place = np.full(len(items.keys) + 1, -1, np.int64)
    place[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    attributes = np.concatenate([np.frombuffer(items.attributes, np.int8), np.full(len(ATTRIBUTES), -1, np.int8)])
    labelled = np.append(np.frombuffer(items.labelled, np.uint8), np.uint8(0))
    arrays: dict[str, Array] = {
        **Names.packed([f"{key.partition('/')[0]}/{split}/{files[key]}" for key in keys], "names"),
        "labelled": labelled[rows],
        "attributes": attributes.reshape(-1, len(ATTRIBUTES))[rows],
        **_boxes(items, place, len(keys)),
        **_shapes(items, place, len(keys)),
    }
    tasks = [OBJECTS] if (arrays["labelled"] & bit_of(OBJECTS)).any() else []
    for task in MAPS:
        names = [_cover(covers[task], key, task) for key in keys]
        arrays |= Names.packed(names, f"mask_{task}")
        if any(names) or (arrays["labelled"] & bit_of(task)).any():
            tasks.append(task)
    tasks += [name for name, column in zip(ATTRIBUTES, arrays["attributes"].T, strict=True) if (column >= 0).any()]
    left_out = [
        items.bad_frames.result(items.frame_count).as_dict(),
        items.bad_boxes.result(items.box_count).as_dict(),
        items.bad_shapes.result(items.shape_count).as_dict(),
    ]
    return Table(arrays, {**meta, "tasks": tasks, "left_out": left_out})


def _cover(names: dict[str, str], key: str, task: str) -> str:
    group, _, stem = key.partition("/")
    return names.get(stem, "") if group == group_of(task) else ""


def _boxes(items: LabelItems, place: Array, frames: int) -> dict[str, Array]:
    owners, order = _ordered(items.box_rows, place)
    corners = np.frombuffer(items.corners, np.float64).reshape(-1, 4)
    return {
        "first": np.searchsorted(owners, np.arange(frames + 1)).astype(np.int64),
        "xyxy": scalabel_edges(corners[order]).astype(np.float32),
        "classes": np.frombuffer(items.box_classes, np.int8)[order].astype(np.int16),
        "crowd": np.frombuffer(items.crowd, np.int8)[order] != 0,
    }


def _shapes(items: LabelItems, place: Array, frames: int) -> dict[str, Array]:
    owners, order = _ordered(items.shape_rows, place)
    counts = np.array(items.point_counts, np.int64)
    starts, kept = np.cumsum(counts) - counts, counts[order]
    ends = np.cumsum(kept)
    numbers = np.repeat(starts[order] - (ends - kept), kept) + np.arange(int(kept.sum()))
    return {
        "shape_first": np.searchsorted(owners, np.arange(frames + 1)).astype(np.int64),
        "shape_tasks": np.frombuffer(items.shape_tasks, np.int8)[order],
        "shape_values": np.frombuffer(items.shape_values, np.uint8)[order],
        "shape_forms": np.frombuffer(items.shape_forms, np.int8)[order],
        "shape_closed": np.frombuffer(items.closed, np.int8)[order] != 0,
        "point_first": np.concatenate([np.zeros(1, np.int64), ends]),
        "points": np.frombuffer(items.points, np.float32).reshape(-1, 2)[numbers],
        "types": np.frombuffer(bytes(items.types), np.uint8)[numbers],
        **Names.packed([items.codes[number] for number in order.tolist()], "codes"),
        "code_sizes": np.array(items.code_sizes, np.int64).reshape(-1, 2)[order],
    }


def _ordered(rows: Any, place: Array) -> tuple[Array, Array]:
    """Frames of items of some sort, rising, and the numbers of the items in that order; without those of no frame."""
    owners = place[np.array(rows, np.int64)] if len(rows) else np.zeros(0, np.int64)
    there = np.flatnonzero(owners >= 0)
    order = there[np.argsort(owners[there], kind="stable")]
    return owners[order], order
