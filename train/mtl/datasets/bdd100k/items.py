"""What files of labels say, frame by frame: Scalabel's format, of 2020 and of 2018, and what of it cannot be used."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edge_mtl.documents import parse_json
from edge_mtl.errors import BuildError
from edge_mtl.numbers import is_number
from mtl.datasets.bdd100k.classes import (
    ATTRIBUTES,
    DRIVABLE,
    LANE,
    MAPS,
    OBJECTS,
    UNDEFINED,
    area_class,
    box_class,
    lane_mark_class,
)
from mtl.datasets.bdd100k.layout import LabelFile
from mtl.datasets.bdd100k.outlines import FARTHEST_PX, outline_of
from mtl.datasets.bdd100k.rle import rle_text
from mtl.datasets.folder.reading import file_bytes
from mtl.datasets.published.index_cache import Advance
from mtl.datasets.published.json_stream import top_level_items
from mtl.datasets.published.left_out import Tally

__all__ = ["AREA", "LINE", "RLE", "LabelItems", "bit_of"]

AREA, LINE, RLE = 0, 1, 2
"""How a shape is stored: an outline that is filled, one that is drawn along, or run-length codes."""

_CORNERS = ("x1", "y1", "x2", "y2")


class LabelItems:
    """Labels of many frames; a frame is known by a key that is made of the name of its image.

    Attributes:
        keys: of frames, in the order in which they came; `rows` has the place of each.
        attributes: of each frame, by the order of `ATTRIBUTES`, the index of the value, -1 where none is known.
        labelled: of each frame, a bit for every task that its files label, by `bit_of`.
        box_rows, corners, box_classes, crowd: of each box: its frame, four numbers, class, whether it is ignored.
        shape_rows, shape_tasks, shape_values, shape_forms: of each shape: its frame, place in `MAPS`, class, form.
        point_counts, points, types, closed: of each shape: how many vertices; two numbers and one letter a vertex.
        codes, code_sizes: of each shape, run-length codes and H, W; "" and 0, 0 where there are none.
        bad_frames, bad_boxes, bad_shapes: what cannot be used so far, of `frame_count`, `box_count` and `shape_count`.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.rows: dict[str, int] = {}
        self.attributes = array("b")
        self.labelled = array("B")
        self.box_rows, self.corners, self.box_classes, self.crowd = array("l"), array("d"), array("b"), array("b")
        self.shape_rows, self.shape_tasks, self.shape_values, self.shape_forms = array("l"), array("b"), array("B"), array("b")
        self.point_counts, self.points, self.types, self.closed = array("l"), array("f"), bytearray(), array("b")
        self.codes: list[str] = []
        self.code_sizes = array("l")
        self.bad_frames, self.bad_boxes, self.bad_shapes = Tally("labelled frames"), Tally("boxes"), Tally("areas and lanes")
        self.frame_count = self.box_count = self.shape_count = 0
        self._of_file: set[int] = set()

    def read(self, file: LabelFile, advance: Advance) -> None:
        """Add the frames of a file, or of a folder with a file for each, as in the release of 2018; attributes with objects.

        Raises:
            BuildError: it cannot be read, or is of another format.
        """
        self._of_file.clear()
        found: set[str] = set()
        if file.path.is_dir():
            paths = sorted(path for path in file.path.iterdir() if path.suffix == ".json")
            for number, path in enumerate(paths, 1):
                found |= self._frame(_single_frame(path), path, file)
                advance(number, len(paths))
        else:
            total = file.path.stat().st_size
            for key, item in top_level_items(file.path, on_bytes=lambda done: advance(done, total), array="frames"):
                if key == "frames":
                    found |= self._frame(item, file.path, file)
        if not self._of_file:
            raise _other_format(file.path, "it has no frames")
        bits = sum(bit_of(task) for task in (file.tasks if file.sure else found))
        for row in self._of_file:
            self.labelled[row] |= bits

    def _frame(self, item: Any, path: Path, file: LabelFile) -> set[str]:
        """Add a frame. Returns the tasks that its labels are of."""
        self.frame_count += 1
        if not isinstance(item, Mapping):
            raise _other_format(path, f"frames holds {str(item)[:40]!r}")
        name = item.get("name")
        labels = item.get("labels", item.get("objects"))
        stem = PurePosixPath(name).stem if isinstance(name, str) else ""
        if not _is_name(stem) or (labels is not None and not isinstance(labels, list)):
            if not self._of_file:
                raise _other_format(path, f"a frame has the name {name!r} and {type(labels).__name__} of labels")
            self.bad_frames.add(f"{path}: a frame has the name {name!r} and labels {str(labels)[:40]!r}")
            return set()
        row = self._row(f"{file.group}/{stem}")
        if row in self._of_file:
            self.bad_frames.add(f"{path}: another frame is called {stem}, too")
            return set()
        self._of_file.add(row)
        if OBJECTS in file.tasks:
            self._attributes(row, item.get("attributes"), f"{path}: {stem}")
        found: set[str] = set()
        for number, label in enumerate(labels or ()):
            found |= self._label(row, label, f"{path}: label {number} of {stem}", file.tasks)
        return found

    def _row(self, key: str) -> int:
        """The place of a frame that comes, perhaps in a second file."""
        if key not in self.rows:
            self.rows[key] = len(self.keys)
            self.keys.append(key)
            self.attributes.extend([-1] * len(ATTRIBUTES))
            self.labelled.append(0)
        return self.rows[key]

    def _attributes(self, row: int, found: Any, where: str) -> None:
        if found is not None and not isinstance(found, Mapping):
            self.bad_frames.add(f"{where}: its attributes are {str(found)[:40]!r}, expected an object")
            return
        for place, (name, values) in enumerate(ATTRIBUTES.items()):
            value = (found or {}).get(name)
            if isinstance(value, str) and value in values:
                self.attributes[row * len(ATTRIBUTES) + place] = values.index(value)
            elif value not in UNDEFINED:
                self.bad_frames.add(f"{where}: its {name} is {str(value)[:40]!r}, expected {', '.join(values)} or undefined")

    def _label(self, row: int, label: Any, where: str, tasks: frozenset[str]) -> set[str]:
        """Add a label. Returns the task that it is of."""
        if not isinstance(label, Mapping):
            self.box_count += 1
            self.bad_boxes.add(f"{where} is {str(label)[:40]!r}, expected an object")
            return set()
        attributes = label.get("attributes")
        known: Mapping[str, Any] = attributes if isinstance(attributes, Mapping) else {}
        shape = _shape_of(label.get("category"), known, tasks)
        if shape is not None and (label.get("poly2d") or label.get("rle")):
            task, value = shape
            self._shapes(row, label, task, value, where)
            return {task}
        if LANE in tasks and _is_lane(label.get("category")) and shape is None:
            self.shape_count += 1
            named = known.get("laneType", known.get("laneTypes", label.get("category")))
            self.bad_shapes.add(f"{where}: a lane mark of the category {str(named)[:40]!r}, expected one of the eight")
        if OBJECTS not in tasks or shape is not None or _is_of_lanes_or_areas(label.get("category")):
            return set()
        return {OBJECTS} if self._box(row, label, known, where) else set()

    def _box(self, row: int, label: Mapping[str, Any], attributes: Mapping[str, Any], where: str) -> bool:
        box = label.get("box2d")
        if box is None and any(label.get(key) for key in ("poly2d", "rle", "box3d", "graph")):
            return False
        self.box_count += 1
        kind = box_class(label.get("category"))
        if kind is None:
            self.bad_boxes.add(f"{where}: category {str(label.get('category'))[:40]!r} is none of detection's")
            return False
        found = [box.get(corner) for corner in _CORNERS] if isinstance(box, Mapping) else []
        corners = [float(one) for one in found if is_number(one) and abs(one) <= FARTHEST_PX]
        if len(corners) < len(_CORNERS):
            self.bad_boxes.add(f"{where}: its box2d is {str(box)[:60]}, expected numbers as x1, y1, x2, y2")
            return False
        left, top, right, bottom = corners
        if right - left + 1 <= 0 or bottom - top + 1 <= 0:
            self.bad_boxes.add(f"{where}: its box from {left:g}, {top:g} to {right:g}, {bottom:g} holds no pixel")
            return False
        self.box_rows.append(row)
        self.corners.extend(corners)
        self.box_classes.append(kind[0])
        self.crowd.append(kind[1] or any(bool(attributes.get(one)) for one in ("crowd", "Crowd", "ignored", "ignore")))
        return True

    def _shapes(self, row: int, label: Mapping[str, Any], task: str, value: int, where: str) -> None:
        """Add the outlines of a label, or its run-length codes."""
        self.shape_count += 1
        polys, rle = label.get("poly2d"), label.get("rle")
        try:
            if not polys:
                code, size = rle_text(rle)
                self._shape(row, task, value, RLE, [], "", False, code, size)
                return
            if not isinstance(polys, list):
                raise ValueError(f"its poly2d is {str(polys)[:40]!r}, expected a list")
            single = isinstance(polys[0], list)
            outlines = [outline_of(one, closed=None if task == LANE else True) for one in ([polys] if single else polys)]
        except ValueError as exc:
            self.bad_shapes.add(f"{where}: {exc}")
            return
        for points, types, closed in outlines:
            self._shape(row, task, value, LINE if task == LANE else AREA, points, types, closed)

    def _shape(
        self, row: int, task: str, value: int, form: int, points: list[float], types: str, closed: bool,
        code: str = "", size: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        self.shape_rows.append(row)
        self.shape_tasks.append(MAPS.index(task))
        self.shape_values.append(value)
        self.shape_forms.append(form)
        self.point_counts.append(len(types))
        self.points.extend(points)
        self.types.extend(types.encode())
        self.closed.append(closed)
        self.codes.append(code)
        self.code_sizes.extend(size)


def bit_of(task: str) -> int:
    """The bit of `LabelItems.labelled` that stands for a task."""
    return 1 << (*MAPS, OBJECTS).index(task)


def _is_name(stem: str) -> bool:
    """Whether a file can have that name."""
    try:
        return bool(os.fsencode(stem)) and "\0" not in stem
    except UnicodeEncodeError:
        return False


def _single_frame(path: Path) -> dict[str, Any]:
    """The frame of a file of its own. Raises BuildError."""
    try:
        content = parse_json(file_bytes(path))
    except ValueError as exc:
        raise BuildError(f"{path} is not JSON, or was cut short: {exc}. Copy it again, or take it out") from exc
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or len(frames) != 1 or not isinstance(frames[0], dict):
        raise _other_format(path, "it is no object with one of frames")
    return {**frames[0], "name": content.get("name", path.stem), "attributes": content.get("attributes")}


def _shape_of(category: Any, attributes: Mapping[str, Any], tasks: frozenset[str]) -> tuple[str, int] | None:
    """Which task of labels a category is of, and its class there."""
    for task in MAPS:
        if task in tasks:
            value = lane_mark_class(category, attributes) if task == LANE else area_class(task, category, attributes)
            if value is not None:
                return task, value
    return None


def _is_lane(category: Any) -> bool:
    """Whether a category of the release of 2018 is one of lane marks."""
    return isinstance(category, str) and (category == "lane" or category.startswith("lane/"))


def _is_of_lanes_or_areas(category: Any) -> bool:
    """Whether a label is of none of detection's, in files of all tasks."""
    if _is_lane(category) or (isinstance(category, str) and category.startswith("area/")):
        return True
    return lane_mark_class(category, {}) is not None or area_class(DRIVABLE, category, {}) is not None


def _other_format(path: Path, found: str) -> BuildError:
    return BuildError(
        f"{path} is not in the format of BDD100K's labels (Scalabel): {found}. Expected a list of frames with name and labels, "
        "or for each image a file with frames[0].objects. Copy it again, or take it out"
    )
