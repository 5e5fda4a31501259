"""What a conversion reads from: frames in LibMTL's form from some other file. Knows no file format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mtl.datasets.nyuv2.layout import Part
from mtl.geometry import Intrinsics

__all__ = ["Origin", "SourceFrame"]


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A frame as LibMTL stores it, but for the axes of its normals.

    Attributes:
        image: (H, W, 3) float32 RGB, 0..1.
        label: (H, W) float32, -1 void, else 0..12.
        depth_m: (H, W) float32 metres, 0 invalid.
        normals: (H, W, 3) float32 unit, 0 invalid, in the origin's own axes.
    """

    image: np.ndarray
    label: np.ndarray
    depth_m: np.ndarray
    normals: np.ndarray


class Origin(Protocol):
    """Frames by part and number."""

    size: tuple[int, int]
    intrinsics: Intrinsics
    counts: Mapping[Part, int]

    @property
    def source(self) -> dict[str, Any]:
        """What the frames are made of; equal for equal conversions."""

    @property
    def normals_are_measured(self) -> bool:
        """Whether the axes of the normals must be detected; else they are the camera's."""

    def sample(self, count: int) -> Iterator[SourceFrame]:
        """Some training frames, to detect the axes by."""

    def frames(self, part: Part, wanted: Sequence[int]) -> Iterator[tuple[int, SourceFrame]]:
        """Frames by rising number."""

    def close(self) -> None: ...
