"""Where a task's files are and what their values mean: from stored values to the truths of a `Frame`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import VOID
from edge_mtl.tasks.depth import Depth
from edge_mtl.tasks.labels import Labels
from edge_mtl.tasks.normals import Normals
from mtl.datasets.folder.reading import (
    DEPTH_SUFFIXES,
    MASK_SUFFIXES,
    NORMAL_SUFFIXES,
    stored_depth,
    stored_mask,
    stored_normals,
)
from mtl.datasets.normal_axes import NormalAxes

__all__ = ["UNDECLARED", "DepthFiles", "MaskFiles", "NormalFiles", "TruthFiles"]

Array = np.ndarray

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

    def stored(self, path: Path) -> Array:
        """(H, W) uint8 indices. Raises BuildError."""
        return stored_mask(path)

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

    def stored(self, path: Path) -> Array:
        """(H, W) float32 metres, 0 unknown. Raises BuildError."""
        return stored_depth(path, scale_m=self.scale_m)

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

    def stored(self, path: Path) -> Array:
        """(H, W, 3) float32 of any length, 0 unknown. Raises BuildError."""
        return stored_normals(path)

    def truth(self, stored: Array, path: Path) -> Array:
        """(H, W, 3) float32 unit vectors in the camera frame, 0 unknown."""
        length = np.sqrt(np.einsum("ijk,ijk->ij", stored, stored))[..., None]
        unit = np.divide(stored, length, out=np.zeros_like(stored), where=length > _LEAST_LENGTH)
        return self.axes.apply(unit)


TruthFiles = MaskFiles | DepthFiles | NormalFiles


def listed_counts(counts: Mapping[int, int], *, most: int = 8) -> str:
    """ "17 (204 pixels), 18 (3 pixels)", the most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{index} ({count} pixels)" for index, count in ranked[:most])
    return shown + (f" and {len(ranked) - most} more" if len(ranked) > most else "")
