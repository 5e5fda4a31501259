"""BDD100K as a data set: boxes, drivable areas, lane marks, classes of pixels and attributes, each where it is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from edge_mtl.tasks.boxes import BoxTruth
from mtl.datasets.bdd100k.classes import AREAS, ATTRIBUTES, BOXES, DRIVABLE, LANE, MAPS, OBJECTS
from mtl.datasets.bdd100k.index import split_table
from mtl.datasets.bdd100k.items import AREA, RLE, bit_of
from mtl.datasets.bdd100k.lane_bits import LANE_CLASSES, lane_classes
from mtl.datasets.bdd100k.layout import SPLITS, TERMS, data_root, has_masks, label_files, label_places, mask_folder
from mtl.datasets.bdd100k.outlines import LANE_WIDTH_PX, paint_area, paint_line, points_of
from mtl.datasets.bdd100k.rle import mask_of
from mtl.datasets.data_set import Split
from mtl.datasets.folder.reading import stored_mask
from mtl.datasets.published.data_set import PublishedSet
from mtl.datasets.published.frames import Listing, TableListing, task_of
from mtl.datasets.published.index_cache import Names, Table, cached_table

if TYPE_CHECKING:
    from mtl.settings import DataSettings

__all__ = ["Bdd100k", "BddListing", "read_mask"]

Array = np.ndarray

_VOID = 255
_EMPTY = {DRIVABLE: AREAS[DRIVABLE].index("background"), LANE: LANE_CLASSES.index("background")}
"""What pixels are that no shape covers; of other tasks they are void."""
_MEASURED: dict[str, dict[str, Any]] = {
    DRIVABLE: {"ignore_in_mean": ["background"]},
    LANE: {"ignore_in_mean": ["background"], "tolerance_px": 2},
}
"""What manifests say of these tasks besides their classes, as streets have it."""


@dataclass(frozen=True, slots=True, eq=False)
class BddListing(TableListing):
    """The images of a split that have any label.

    Attributes:
        root: the folder with images/ and labels/.
        table: see `split_table`.
        tasks: those that some image of any split has.
    """

    root: Path
    split: Split
    table: Table
    names: Names
    tasks: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.root} ({self.split})"

    @property
    def specs(self) -> Specs:
        found = {OBJECTS: task_of("boxes", OBJECTS, BOXES, where=self.where)}
        for task in MAPS:
            found[task] = task_of("labels", task, AREAS.get(task, LANE_CLASSES), where=self.where, **_MEASURED.get(task, {}))
        for name, values in ATTRIBUTES.items():
            found[name] = task_of("class", name, values, where=self.where)
        return {task: spec for task, spec in found.items() if task in self.tasks}

    def image(self, number: int) -> Path:
        return self.root / "images" / self.names[number]

    def mask(self, number: int, task: str) -> Path | None:
        """The mask of an image for a task of labels; None where there is none."""
        name = Names.of(self.table, f"mask_{task}")[number]
        return mask_folder(self.root, task, self.split) / name if name else None

    def known(self, number: int) -> frozenset[str]:
        labelled = int(self.table.arrays["labelled"][number])
        found = {task for task in (*MAPS, OBJECTS) if labelled & bit_of(task)}
        found |= {task for task in MAPS if Names.of(self.table, f"mask_{task}")[number]}
        values = self.table.arrays["attributes"][number]
        found |= {name for name, value in zip(ATTRIBUTES, values, strict=True) if value >= 0}
        return frozenset(found)

    def boxes(self, number: int, size: tuple[int, int]) -> BoxTruth:
        """The boxes of an image of `size` (H, W), cut to it. Raises BuildError where one is outside."""
        first, last = self.table.arrays["first"][number : number + 2]
        xyxy, classes, crowd = (self.table.arrays[key][first:last] for key in ("xyxy", "classes", "crowd"))
        inside = np.clip(xyxy, np.float32(-0.5), np.array(size[::-1] * 2, np.float32) - np.float32(0.5))
        lost = np.flatnonzero((inside[:, 2] <= inside[:, 0]) | (inside[:, 3] <= inside[:, 1]))
        if lost.size:
            left, top, right, bottom = xyxy[lost[0]].tolist()
            raise BuildError(
                f"{self.image(number)}: expected boxes within its {size[0]}x{size[1]} pixels (height x width), found one from "
                f"{left:g}, {top:g} to {right:g}, {bottom:g}. Is it an image of another size? Copy it again, or take it out"
            )
        return BoxTruth(inside, classes.astype(np.int64), crowd.copy())

    def truths(self, number: int, size: tuple[int, int]) -> dict[str, Any]:
        known = self.known(number)
        found: dict[str, Any] = {OBJECTS: self.boxes(number, size)} if OBJECTS in known else {}
        for task in MAPS:
            if task not in known:
                continue
            path = self.mask(number, task)
            found[task] = self._painted(number, task, size) if path is None else read_mask(path, task)
            if found[task].shape != size:
                expected, have = (f"{height}x{width}" for height, width in (size, found[task].shape))
                raise BuildError(f"{path}: expected {expected}, as its image is, found {have}. Copy it again, or take it out")
        for place, name in enumerate(ATTRIBUTES):
            if name in known:
                found[name] = int(self.table.arrays["attributes"][number, place])
        return found

    def listed_classes(self, task: str) -> Array | None:
        if task not in ATTRIBUTES or task not in self.tasks:
            return None
        return self.table.arrays["attributes"][:, tuple(ATTRIBUTES).index(task)].astype(np.int64)

    def painted_count(self, task: str) -> int:
        """How many frames have a truth of a task that is made of outlines or run-length codes."""
        covers = Names.of(self.table, f"mask_{task}")
        labelled = self.table.arrays["labelled"] & bit_of(task) != 0
        return sum(1 for number in np.flatnonzero(labelled).tolist() if not covers[number])

    def _painted(self, number: int, task: str, size: tuple[int, int]) -> Array:
        """(H, W) uint8: the shapes of an image, later ones over earlier ones."""
        arrays = self.table.arrays
        canvas = np.full(size, _EMPTY.get(task, _VOID), np.uint8)
        first, last = arrays["shape_first"][number : number + 2].tolist()
        for shape in range(first, last):
            if MAPS[arrays["shape_tasks"][shape]] == task:
                self._paint(number, shape, canvas)
        return canvas

    def _paint(self, number: int, shape: int, canvas: Array) -> None:
        arrays = self.table.arrays
        value, form = int(arrays["shape_values"][shape]), int(arrays["shape_forms"][shape])
        closed = bool(arrays["shape_closed"][shape])
        if form == RLE:
            height, width = arrays["code_sizes"][shape].tolist()
            try:
                if (height, width) != canvas.shape:
                    raise ValueError(f"it is of {height}x{width} pixels")
                canvas[mask_of(Names.of(self.table, "codes")[shape], (height, width))] = value
            except ValueError as exc:
                expected = f"{canvas.shape[0]}x{canvas.shape[1]}"
                raise BuildError(
                    f"{self.image(number)}: expected run-length codes of its {expected} pixels in its labels, and {exc}. "
                    "Copy image and labels again, or take the image out"
                ) from exc
            return
        start, end = arrays["point_first"][shape : shape + 2]
        types = arrays["types"][start:end].tobytes().decode()
        points = points_of(arrays["points"][start:end].astype(np.float64), types, closed=closed)
        if form == AREA:
            paint_area(canvas, points, value)
        else:
            paint_line(canvas, points, value, closed=closed, width_px=LANE_WIDTH_PX)


def read_mask(path: Path, task: str) -> Array:
    """(H, W) uint8 of the classes of a task of labels, 255 void. Raises BuildError naming the file."""
    stored = stored_mask(path)
    if task == LANE:
        try:
            found = lane_classes(stored)
        except ValueError as exc:
            raise BuildError(f"{path} has {exc}: expected lane marks in bits 0 to 5, 255 for none. Copy it again") from exc
        if found.all():
            raise BuildError(f"{path}: expected 255 where no lane mark is, found no such pixel: 0 is a crosswalk. Mend it")
        return found
    most = len(AREAS[task])
    strange = np.unique(stored[(stored >= most) & (stored != _VOID)])
    if strange.size:
        named = ", ".join(map(str, strange[:5].tolist()))
        raise BuildError(f"{path}: expected {task} as 0 to {most - 1} and {_VOID} for void, found {named}. Copy it again")
    return stored


class Bdd100k(PublishedSet):
    """See the module and `mtl.datasets.bdd100k.layout`. "val" and "test" both mean the validation images."""

    name = "bdd100k"
    frames: ClassVar[str] = "BDD100K"

    def title(self, data: DataSettings) -> str:
        return "BDD100K"

    def licence(self, data: DataSettings) -> str:
        return TERMS

    def holds(self, root: Path) -> bool:
        try:
            place = data_root(root)
        except BuildError:
            return False
        return any(self._is_there(place, split) for split in SPLITS)

    def has(self, data: DataSettings, split: Split) -> bool:
        return split in SPLITS and self._is_there(data_root(self.root_of(data)), split)

    def remarks(self, listing: Listing) -> tuple[str, ...]:
        assert isinstance(listing, BddListing)
        arrays, meta = listing.table.arrays, listing.table.meta
        boxed = arrays["labelled"] & bit_of(OBJECTS) != 0
        facts = (
            (int((boxed & (arrays["first"][1:] == arrays["first"][:-1])).sum()), "images have labels and no box"),
            (int(arrays["crowd"].sum()), "boxes are crowds or to be ignored"),
            *((listing.painted_count(task), f"images have {task} from outlines or codes, not masks") for task in MAPS),
            (int(meta["elsewhere"]), "images are validation images of the other set, and not used"),
            (int(meta["bare"]), "images have no label at all and are not used"),
        )
        return tuple(f"{count} {words}" for count, words in facts if count)

    def find(self, data: DataSettings, split: Split) -> BddListing:
        root = data_root(self.root_of(data))
        tables = {one: _table(root, one) for one in SPLITS}
        found = {task for table in tables.values() for task in table.meta["tasks"]}
        tasks = tuple(task for task in (OBJECTS, *MAPS, *ATTRIBUTES) if task in found)
        table = tables[split if split in tables else SPLITS[1]]
        names = Names.of(table, "names")
        if not len(names):
            aside = "" if split == "train" else ", or set training frames aside: data.validation_from_train"
            raise BuildError(
                f"{root} has no labelled image of {split}: expected images/100k/{split}/*.jpg with labels/det_20/"
                f"det_{split}.json, labels/drivable/masks/{split}, labels/lane/masks/{split} or the release of 2018, or "
                f"images/10k/{split}/*.jpg with labels/sem_seg/masks/{split}. The labels of BDD100K are {TERMS}. "
                f"Mend data.root{aside}"
            )
        return BddListing(root, split, table, names, tasks)

    def _is_there(self, root: Path, split: Split) -> bool:
        return any(True for _ in label_files(root, split)) or any(has_masks(root, task, split) for task in MAPS)


def _table(root: Path, split: Split) -> Table:
    return cached_table(
        f"bdd100k-{split}",
        root,
        lambda: label_places(root, split),
        lambda advance: split_table(root, split, advance),
    )
