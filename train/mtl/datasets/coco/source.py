"""COCO's instances as a data set: the boxes of 80 classes, or of whatever categories a JSON of that format has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from edge_mtl.tasks.boxes import BoxesSpec, BoxTruth
from mtl.datasets.coco.index import coco_table
from mtl.datasets.coco.layout import annotation_file, watched_paths
from mtl.datasets.data_set import Split
from mtl.datasets.published.data_set import PublishedSet
from mtl.datasets.published.frames import Listing, TableListing, task_of
from mtl.datasets.published.index_cache import Names, Table, cached_table, shown_name

if TYPE_CHECKING:
    from mtl.settings import DataSettings

__all__ = ["TASK", "Coco", "CocoListing"]

TASK = "objects"
"""The name of its task where settings give no other."""

_COCO = (80, "person", "toothbrush")
"""How many categories COCO has, the first and the last."""


@dataclass(frozen=True, slots=True, eq=False)
class CocoListing(TableListing):
    """The images of one JSON, with their boxes; an image without any has a truth without boxes.

    Attributes:
        file: the JSON.
        table: see `coco_table`.
    """

    file: Path
    table: Table
    names: Names

    @property
    def where(self) -> str:
        return str(self.file)

    @property
    def specs(self) -> Specs:
        return {TASK: task_of("boxes", TASK, self.table.meta["categories"], where=self.where)}

    def image(self, number: int) -> Path:
        return Path(self.table.meta["folder"]) / self.names[number]

    def known(self, number: int) -> frozenset[str]:
        return frozenset((TASK,))

    def boxes(self, number: int) -> BoxTruth:
        """The boxes of an image; opens no file."""
        first, last = self.table.arrays["first"][number : number + 2]
        xyxy, classes, crowd = (self.table.arrays[key][first:last] for key in ("xyxy", "classes", "crowd"))
        return BoxTruth(xyxy.copy(), classes.astype("int64"), crowd.copy())

    def truths(self, number: int, size: tuple[int, int]) -> dict[str, Any]:
        height, width = self.table.arrays["sizes"][number].tolist()
        if size != (height, width):
            raise BuildError(
                f"{self.image(number)}: expected {height}x{width} (height x width), as {self.file} says, found "
                f"{size[0]}x{size[1]}. Its boxes would not fit: copy the image again, or take it out of the JSON"
            )
        return {TASK: self.boxes(number)}


class Coco(PublishedSet):
    """See the module and `mtl.datasets.coco.layout`."""

    name = "coco"
    frames: ClassVar[str] = "COCO"
    options = PublishedSet.options | {"annotations"}

    def title(self, data: DataSettings) -> str:
        return "COCO instances" if self._is_coco(data) else f"boxes of {shown_name(self.root_of(data).resolve().name)}"

    def licence(self, data: DataSettings) -> str:
        if not self._is_coco(data):
            return "none is stated by files in COCO's format: see the terms of whoever made them"
        return (
            "annotations CC BY 4.0; images under the terms that their owners chose on Flickr, most of them not for commercial "
            "use or not to be changed (licenses in the JSON)"
        )

    def holds(self, root: Path) -> bool:
        return any(root.glob("annotations/instances_*.json")) or (root / "train" / "_annotations.coco.json").is_file()

    def has(self, data: DataSettings, split: Split) -> bool:
        return annotation_file(self.root_of(data), split, data.annotations) is not None

    def remarks(self, listing: Listing) -> tuple[str, ...]:
        assert isinstance(listing, CocoListing)
        first, crowd = listing.table.arrays["first"], listing.table.arrays["crowd"]
        facts = (
            (int((first[1:] == first[:-1]).sum()), "images have no box"),
            (int(crowd.sum()), "boxes are crowds"),
            (int(listing.table.meta["cut"]), "boxes reached out of their image and are cut"),
        )
        return tuple(f"{count} {words}" for count, words in facts if count)

    def problem(self, data: DataSettings) -> str | None:
        strange = [split for split in data.annotations if split not in ("train", "val", "test")]
        if strange:
            return f"data.annotations.{strange[0]} is no split: expected train, val or test"
        return super().problem(data)

    def find(self, data: DataSettings, split: Split) -> CocoListing:
        root = self.root_of(data)
        found = self._listed(root, split, data)
        if split != "train" and self.has(data, "train"):
            train = self._listed(root, "train", data)
            if found.table.meta["categories"] != train.table.meta["categories"]:
                raise BuildError(
                    f"{found.file} has other categories than {train.file}: expected the same names by rising id. Mend one"
                )
        return found

    def _is_coco(self, data: DataSettings) -> bool:
        """Whether the categories are COCO's own."""
        (spec,) = self.tasks(data).values()
        assert isinstance(spec, BoxesSpec)
        return len(spec.classes) == _COCO[0] and {spec.classes[0], spec.classes[-1]} == set(_COCO[1:])

    def _listed(self, root: Path, split: Split, data: DataSettings) -> CocoListing:
        file = annotation_file(root, split, data.annotations)
        if file is None:
            aside = ", or set training frames aside: data.validation_from_train" if split == "val" else ""
            raise BuildError(
                f"{root} has no JSON of {split}: expected annotations/instances_{split}*.json, or "
                f"{split}/_annotations.coco.json. Name one: data.annotations.{split} = FILE{aside}"
            )
        table = cached_table(
            f"coco-{split}",
            file,
            lambda: watched_paths(root, file),
            lambda advance: coco_table(file, root, split, advance),
        )
        return CocoListing(file, table, Names.of(table, "names"))
