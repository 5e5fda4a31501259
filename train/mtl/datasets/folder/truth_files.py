"""Where a task's files are and what their values mean: from stored values to the truths of a `Frame`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edge_mtl.errors import BuildError, BundleError
from edge_mtl.tasks import VOID, TaskSpec, kind_of
from edge_mtl.tasks.depth import Depth
from edge_mtl.tasks.labels import Labels
from edge_mtl.tasks.normals import Normals
from edge_mtl.tasks.truth import EXPORT_AGAIN
from mtl.datasets.folder.reading import (
    DEPTH_SUFFIXES,
    MASK_SUFFIXES,
    NORMAL_SUFFIXES,
    file_bytes,
    stored_depth,
    stored_mask,
    stored_normals,
)
from mtl.datasets.normal_axes import NormalAxes

__all__ = ["UNDECLARED", "DepthFiles", "JsonFiles", "MaskFiles", "NormalFiles", "TruthFiles"]

Array = np.ndarray
Size = tuple[int, int]
"""(H, W)."""

UNDECLARED = -1
"""In `MaskFiles.table`, of indices that are neither a class nor void."""

_LEAST_LENGTH = 0.5
"""Of a stored normal that is known; (128, 128, 128) in a PNG is about 0."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskFiles:
    """Masks of one task of labels.

    Attributes:
        folder: below the data set's.
        table: (256,) int16: of each index in a file its class, 255 for void, or `UNDECLARED`.
    """

    kind: ClassVar[str] = Labels.name
    suffixes: ClassVar[tuple[str, ...]] = MASK_SUFFIXES

    folder: str
    table: Array

    def stored(self, path: Path, size: Size | None = None) -> Array:
        """(H, W) uint8 indices. Raises BuildError, also where the image is of another `size`."""
        return _of_size(stored_mask(path), path, size)

    def truth(self, stored: Array, path: Path) -> Array:
        """(H, W) uint8 classes, 255 void. Raises BuildError where an index is not declared."""
        classes = self.table[stored]
        strange = self.strange(stored)
        if strange:
            raise BuildError(
                f"{path} has indices that dataset.toml does not declare: {listed_counts(strange)}. Add them to classes, "
                "values or void of this task"
            )
        return classes.astype(np.uint8)

    def strange(self, stored: Array) -> dict[int, int]:
        """Indices that are not declared, with their pixels."""
        counts = np.bincount(stored.ravel(), minlength=VOID + 1)
        return {int(index): int(counts[index]) for index in np.flatnonzero((self.table == UNDECLARED) & (counts > 0))}


@dataclass(frozen=True, slots=True)
class DepthFiles:
    """Depth maps of one task.

    Attributes:
        scale_m: metres a unit of a PNG; None where none is stated.
        range_m: distances outside are unknown.
    """

    kind: ClassVar[str] = Depth.name
    suffixes: ClassVar[tuple[str, ...]] = DEPTH_SUFFIXES

    folder: str
    scale_m: float | None
    range_m: tuple[float, float]

    def stored(self, path: Path, size: Size | None = None) -> Array:
        """(H, W) float32 metres, 0 unknown. Raises BuildError, also where the image is of another `size`."""
        return _of_size(stored_depth(path, scale_m=self.scale_m), path, size)

    def truth(self, stored: Array, path: Path) -> Array:
        """(H, W) float32 metres, 0 unknown or out of range."""
        near, far = self.range_m
        return np.where((stored >= near) & (stored <= far), stored, np.float32(0))


@dataclass(frozen=True, slots=True)
class NormalFiles:
    """Normals of one task.

    Attributes:
        axes: from stored components to the camera's.
    """

    kind: ClassVar[str] = Normals.name
    suffixes: ClassVar[tuple[str, ...]] = NORMAL_SUFFIXES

    folder: str
    axes: NormalAxes = field(default_factory=NormalAxes)

    def stored(self, path: Path, size: Size | None = None) -> Array:
        """(H, W, 3) float32 of any length, 0 unknown. Raises BuildError, also where the image is of another `size`."""
        return _of_size(stored_normals(path), path, size)

    def truth(self, stored: Array, path: Path) -> Array:
        """(H, W, 3) float32 unit vectors in the camera frame, 0 unknown."""
        length = np.sqrt(np.einsum("ijk,ijk->ij", stored, stored))[..., None]
        unit = np.divide(stored, length, out=np.zeros_like(stored), where=length > _LEAST_LENGTH)
        return self.axes.apply(unit)


@dataclass(frozen=True, slots=True)
class JsonFiles:
    """Truths of one task that are no maps, STEM.<task>.json, as their kind reads them beside any labelled frames.

    Attributes:
        spec: of the task.
    """

    folder: str
    spec: TaskSpec

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What follows the frame's name: (".objects.json",)."""
        return kind_of(self.spec).truth_endings(self.spec)

    def stored(self, path: Path, size: Size | None = None) -> Any:
        """A `BoxTruth`, or the index of a class.

        Args:
            size: of the image, within which boxes lie.
        Raises:
            BuildError: naming the file, and the box, that cannot be used.
        """
        if size is None:
            raise ValueError(f"the size of the image of {path} should be known")
        (ending,) = self.suffixes
        try:
            return kind_of(self.spec).read_truth(self.spec, "", size, _OneFile(path, ending))
        except BundleError as exc:
            raise BuildError(f"{str(exc).removesuffix(EXPORT_AGAIN)}Mend it, or take it out") from exc

    def truth(self, stored: Any, path: Path) -> Any:
        """As it is stored."""
        return stored


TruthFiles = MaskFiles | DepthFiles | NormalFiles | JsonFiles


@dataclass(frozen=True, slots=True)
class _OneFile:
    """The file of a frame, wherever it lies, as kinds read those beside frames; `name` is what they ask for."""

    path: Path
    name: str

    @property
    def names(self) -> frozenset[str]:
        return frozenset({self.name})

    def read(self, name: str) -> bytes:
        return file_bytes(self.path)

    def where(self, name: str) -> str:
        return str(self.path)


def _of_size(stored: Array, path: Path, size: Size | None) -> Array:
    """A map, if it is of that size; of any where None is known."""
    if size is not None and stored.shape[:2] != size:
        expected, found = (f"{height}x{width}" for height, width in (size, stored.shape[:2]))
        raise BuildError(f"{path}: expected {expected}, as its image is, found {found}. Write it at that size")
    return stored


def listed_counts(counts: Mapping[int, int], *, most: int = 8) -> str:
    """ "17 (204 pixels), 18 (3 pixels)", the most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{index} ({count} pixels)" for index, count in ranked[:most])
    return shown + (f" and {len(ranked) - most} more" if len(ranked) > most else "")
