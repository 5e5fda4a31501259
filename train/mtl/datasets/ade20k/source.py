"""ADE20K as a data set: 150 classes of pixels, and the category of the scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.datasets.ade20k.classes import CLASSES, benchmark_classes, release_classes, release_numbers
from mtl.datasets.ade20k.full_release import other_numbers
from mtl.datasets.ade20k.layout import SCENES, Pair, folders, form_of, image_root, pairs, scene_list
from mtl.datasets.data_set import Split
from mtl.datasets.folder.reading import decoded_png, stored_mask
from mtl.datasets.published.data_set import PublishedSet
from mtl.datasets.published.frames import Listing, TableListing, task_of
from mtl.datasets.published.index_cache import Advance, Names, Table, cached_table

if TYPE_CHECKING:
    from mtl.settings import DataSettings

__all__ = ["SCENE", "SEGMENTATION", "Ade20k", "AdeListing", "read_classes"]

Array = np.ndarray

SEGMENTATION, SCENE = "segmentation", "scene"
"""The names of its tasks where settings give no others."""

_OWN: tuple[Split, ...] = ("train", "val")


@dataclass(frozen=True, slots=True, eq=False)
class AdeListing(TableListing):
    """The images of a split that have any label.

    Attributes:
        images: the folder of the images.
        scene_names: of both splits, sorted; empty where there are not two of them.
    """

    images: Path
    split: Split
    table: Table
    names: Names
    masks: Names
    scene_names: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.images} ({self.split})"

    @property
    def specs(self) -> Specs:
        found = {SEGMENTATION: task_of("labels", SEGMENTATION, CLASSES, where=self.where)}
        if self.scene_names:
            found[SCENE] = task_of("class", SCENE, self.scene_names, where=self.where)
        return found

    def image(self, number: int) -> Path:
        return self.images.parent / self.names[number]

    def mask(self, number: int) -> Path | None:
        """The mask of an image; None where there is none."""
        name = self.masks[number]
        return self.images.parent / name if name else None

    def scene(self, number: int) -> str:
        """The category of an image; "" where none is known."""
        place = int(self.table.arrays["scenes"][number])
        return self.table.meta["scenes"][place] if place >= 0 else ""

    def known(self, number: int) -> frozenset[str]:
        has_scene = bool(self.scene_names and self.scene(number))
        return frozenset(([SEGMENTATION] if self.masks[number] else []) + ([SCENE] if has_scene else []))

    def truths(self, number: int, size: tuple[int, int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        mask = self.mask(number)
        if mask is not None:
            found[SEGMENTATION] = read_classes(mask, full=form_of(self.images) == "full")
            if found[SEGMENTATION].shape != size:
                expected, have = (f"{height}x{width}" for height, width in (size, found[SEGMENTATION].shape))
                raise BuildError(f"{mask}: expected {expected}, as its image is, found {have}. Copy it again, or take it out")
        if self.scene_names and self.scene(number):
            found[SCENE] = self.scene_names.index(self.scene(number))
        return found

    def listed_classes(self, task: str) -> Array | None:
        if task != SCENE or not self.scene_names:
            return None
        index = [self.scene_names.index(name) if name else -1 for name in (*self.table.meta["scenes"], "")]
        return np.array(index, np.int64)[self.table.arrays["scenes"].astype(np.int64)]  # of -1 the last one


def read_classes(mask: Path, *, full: bool) -> Array:
    """(H, W) uint8 of the 150 classes, 255 void. Raises BuildError naming the file.

    Args:
        full: whether it is a `_seg.png` of the full release.
    """
    if not full:
        try:
            return benchmark_classes(stored_mask(mask))
        except ValueError as exc:
            raise BuildError(f"{mask} has {exc}: 0 for other and the benchmark's classes. Copy it again") from exc
    stored = decoded_png(mask)
    if stored.ndim != 3 or stored.shape[2] != 3 or stored.dtype != np.uint8:
        raise BuildError(f"{mask}: expected an RGB PNG of 8 bits, as the full release codes its classes. Copy it again")
    return release_classes(release_numbers(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)))


class Ade20k(PublishedSet):
    """See the module and `mtl.datasets.ade20k.layout`. "val" and "test" both mean the validation images."""

    name = "ade20k"
    frames: ClassVar[str] = "ADE20K"

    def title(self, data: DataSettings) -> str:
        full = form_of(image_root(self.root_of(data))) == "full"
        return "ADE20K, full release, 150 classes" if full else "ADE20K scene parsing challenge"

    def licence(self, data: DataSettings) -> str:
        return "annotations BSD 3-clause; images of others, for non-commercial research and education"

    def holds(self, root: Path) -> bool:
        try:
            images = image_root(root)
        except BuildError:
            return False
        return any(self._is_there(images, split) for split in _OWN)

    def has(self, data: DataSettings, split: Split) -> bool:
        return split in _OWN and self._is_there(image_root(self.root_of(data)), split)

    def remarks(self, listing: Listing) -> tuple[str, ...]:
        assert isinstance(listing, AdeListing)
        masked = sum(1 for number in range(len(listing)) if listing.masks[number])
        facts = (
            (len(listing) - masked, "images have no mask"),
            (int(listing.table.meta["bare"]), "images have no label at all and are not used"),
        )
        return tuple(f"{count} {words}" for count, words in facts if count)

    def oddities(self, listing: Listing, number: int) -> tuple[str, ...]:
        assert isinstance(listing, AdeListing)
        return other_numbers(listing.image(number).with_suffix(".json")) if form_of(listing.images) == "full" else ()

    def find(self, data: DataSettings, split: Split) -> AdeListing:
        images = image_root(self.root_of(data))
        tables = {one: _listed(images, one) for one in _OWN}
        scenes = sorted({scene for table in tables.values() for scene in table.meta["scenes"]})
        table = tables[split]
        names, masks = Names.of(table, "names"), Names.of(table, "masks")
        if not len(names):
            word, aside = ("training", "") if split == "train" else ("validation", ", or set data.validation_from_train")
            raise BuildError(
                f"{images} has no labelled image of {word}: expected {word}/*.jpg with masks in annotations/{word}/*.png, or "
                f"with *_seg.png beside them in the full release. Mend data.root{aside}"
            )
        return AdeListing(images, split, table, names, masks, tuple(scenes) if len(scenes) > 1 else ())

    def _is_there(self, images: Path, split: Split) -> bool:
        return any(name.startswith("ADE_") for _, names in folders(images, split) for name in names)


def _listed(images: Path, split: Split) -> Table:
    def watched() -> list[Path]:
        places = [place for place, _ in folders(images, split)]
        masks = [images.parent / "annotations" / place.relative_to(images) for place in places]
        return [images.parent / SCENES, *places, *(masks if form_of(images) == "challenge" else [])]

    return cached_table(f"ade20k-{split}", images, watched, lambda advance: _table(images, split, advance))


def _table(images: Path, split: Split, advance: Advance) -> Table:
    """Of images with any label: `names`, `masks`, and `scenes` (N,) int32, the place in the plain `scenes`, -1 for none."""
    listed = scene_list(images)
    found: list[Pair] = []
    bare = 0
    for number, pair in enumerate(pairs(images, split, listed)):
        if pair.mask or pair.scene:
            found.append(pair)
        else:
            bare += 1
        if number % 1000 == 0:
            advance(number, number + 1)
    scenes = sorted({pair.scene for pair in found} - {""} | set(listed.values()))
    places = {scene: place for place, scene in enumerate(scenes)}
    arrays = {
        **Names.packed([pair.image for pair in found], "names"),
        **Names.packed([pair.mask for pair in found], "masks"),
        "scenes": np.array([places.get(pair.scene, -1) for pair in found], np.int32),
    }
    return Table(arrays, {"scenes": scenes, "bare": bare, "left_out": []})
