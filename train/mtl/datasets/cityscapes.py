"""Cityscapes as LibMTL and MTAN have it: images of 128x256, seven classes and inverse depth, in NumPy's files.

root / {train,val} / {image,label,depth} / {0,1,2,...}.npy (Liu et al. 2019). The copy does not name its classes; they are taken
for Cityscapes' categories in their order (Cordts et al. 2016), void as -1. Its depth is inverse, a disparity without a unit,
0 where none is known: one divided by it is depth up to a scale that nobody states, no metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import KINDS, Specs
from mtl.datasets.data_set import Split
from mtl.datasets.frame import TruthNote
from mtl.datasets.nyuv2.arrays import image_array, label_array, load_array
from mtl.datasets.nyuv2.layout import PARTS, DatasetError, Part, count_frames, frame_path
from mtl.datasets.published.data_set import PublishedSet
from mtl.datasets.published.frames import TableListing, task_of
from mtl.datasets.published.index_cache import Names, Table

if TYPE_CHECKING:
    from mtl.settings import DataSettings

__all__ = ["CATEGORIES", "RELATIVE_DEPTH", "Cityscapes", "CityscapesListing"]

Array = np.ndarray

CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
LABELS, RELATIVE_DEPTH = "segmentation", "relative_depth"
"""The names of its tasks where settings give no others."""

MODALITIES = ("image", "label", "depth")
_LARGEST = 1.0
"""What inverse depth reaches at most: the copy is said to have up to 0.4922."""
_FARTHEST = 80.0
"""Depth beyond is unknown: disparities are as small there as their errors."""
_NOTE = TruthNote("one divided by a stored disparity of no stated unit: depth up to a scale, no metres, whatever is called so")


@dataclass(frozen=True, slots=True, eq=False)
class CityscapesListing(TableListing):
    """The frames of a part.

    Attributes:
        root: the folder.
    """

    root: Path
    part: Part
    table: Table
    names: Names

    @property
    def where(self) -> str:
        return f"{self.root} ({self.part})"

    @property
    def specs(self) -> Specs:
        depth = KINDS["depth"].spec(RELATIVE_DEPTH, {"range_m": [0.0, _FARTHEST]})
        return {LABELS: task_of("labels", LABELS, CATEGORIES, where=self.where), RELATIVE_DEPTH: depth}

    @property
    def truth_notes(self) -> MappingProxyType[str, TruthNote]:
        return MappingProxyType({RELATIVE_DEPTH: _NOTE})

    def image(self, number: int) -> Path:
        return frame_path(self.root, self.part, "image", number)

    def pixels(self, number: int) -> Array:
        path = self.image(number)
        return image_array(load_array(path), where=str(path))

    def known(self, number: int) -> frozenset[str]:
        return frozenset((LABELS, RELATIVE_DEPTH))

    def truths(self, number: int, size: tuple[int, int]) -> dict[str, Any]:
        label, depth = (frame_path(self.root, self.part, modality, number) for modality in ("label", "depth"))
        return {
            LABELS: label_array(load_array(label), size=size, classes=len(CATEGORIES), where=str(label)),
            RELATIVE_DEPTH: _relative_depth(load_array(depth), size=size, where=str(depth)),
        }


class Cityscapes(PublishedSet):
    """See the module. "val" and "test" both mean the validation frames."""

    name = "cityscapes"
    frames: ClassVar[str] = "Cityscapes"

    def title(self, data: DataSettings) -> str:
        return "Cityscapes at 128x256, LibMTL's copy"

    def licence(self, data: DataSettings) -> str:
        return "for non-commercial purposes such as research, teaching and personal experimentation; images not to be passed on"

    def holds(self, root: Path) -> bool:
        """NYUv2's folders look alike: they have normals, and images of 4:3."""
        first = frame_path(root, "train", "image", 0)
        if not first.is_file() or (root / "train" / "normal").exists():
            return False
        try:
            shape = load_array(first).shape
        except DatasetError:
            return False
        return len(shape) == 3 and shape[1] == 2 * shape[0]

    def has(self, data: DataSettings, split: Split) -> bool:
        return split in PARTS and (self.root_of(data) / split / "image").is_dir()

    def find(self, data: DataSettings, split: Split) -> CityscapesListing:
        root, part = self.root_of(data), next((one for one in PARTS if one == split), PARTS[1])
        count = count_frames(root, part, modalities=MODALITIES, missing=partial(_missing, part))
        table = Table(Names.packed([f"{part}/image/{number}.npy" for number in range(count)], "names"), {"left_out": []})
        return CityscapesListing(root, part, table, Names.of(table, "names"))


def _relative_depth(stored: Array, *, size: tuple[int, int], where: str) -> Array:
    """(H, W, 1) or (H, W) inverse depth of any dtype -> (H, W) float32 depth up to a scale, 0 unknown. Raises BuildError."""
    if stored.ndim == 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.shape != size:
        raise BuildError(f"{where}: expected {size[0]} x {size[1]}, found {' x '.join(map(str, stored.shape))}. Copy it again")
    with np.errstate(over="ignore"):
        found = np.array(stored, np.float32)
    found[~np.isfinite(found)] = 0
    low, high = float(found.min(initial=0)), float(found.max(initial=0))
    if low < 0 or high > _LARGEST:
        raise BuildError(
            f"{where}: expected inverse depth from 0 to {_LARGEST:g}, found {low:g} to {high:g}. Is it depth in metres, or a "
            "disparity in pixels? Take the copy that LibMTL links"
        )
    with np.errstate(divide="ignore", over="ignore"):
        depth = np.float32(1) / found
    depth[depth > _FARTHEST] = 0  # infinite, too
    return depth


def _missing(part: Part, root: Path, found: str) -> str:
    return (
        f"{root} has no Cityscapes in LibMTL's layout ({found}): expected {part}/ with image/, label/ and depth/ of 0.npy, "
        "1.npy, ..., as the copy that LibMTL's and MTAN's pages link. Mend data.root"
    )
