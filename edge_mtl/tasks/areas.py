"""Where a graph's maps belong in the frame, and the change from the canonical camera to the frame's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from edge_mtl.image import OUTPUT_STRIDE
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import Intrinsics, Letterbox
from edge_mtl.tasks.kind import Placement

__all__ = ["CameraChange", "MapArea", "OutputSize", "camera_change"]

Array = np.ndarray
OutputSize = Literal["frame", "network", "content"]
"""Of results: the frame's size, the network's with unknown bars around the content, or the network's without these bars."""


@dataclass(frozen=True, slots=True)
class CameraChange:
    """From the canonical camera to another one that sees the same image.

    Attributes:
        depth_factor: f / f_c times the scale of depth that was found in the field.
        normals: (3, 3) matrix K^T K_c^-T, row by row; it is applied before normalising.
        turns_normals: whether that matrix changes anything.
    """

    depth_factor: float
    normals: tuple[tuple[float, float, float], ...]
    turns_normals: bool = True


_UNTURNED = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@lru_cache(maxsize=64)
def camera_change(camera: Intrinsics, canonical: Intrinsics, depth_scale: float = 1.0) -> CameraChange | None:
    """How to convert canonical answers to `camera`, both in network pixels; None where nothing changes.

    `depth_scale` multiplies every distance beside that: normals do not depend on it.
    A plane n.X = h seen through K has the inverse depth n^T K^-1 p / h at pixel p: the image fixes K^-T n.
    """
    if camera == canonical:
        return None if depth_scale == 1.0 else CameraChange(depth_scale, _UNTURNED, turns_normals=False)
    matrix = camera.matrix().T @ np.linalg.inv(canonical.matrix()).T
    rows = tuple((float(a), float(b), float(c)) for a, b, c in matrix)
    return CameraChange(depth_scale * (camera.fx / canonical.fx), rows)


@dataclass(frozen=True, slots=True)
class MapArea:
    """Which part of a graph's maps is wanted, at which size, and where it goes in the result.

    Attributes:
        placement: of the graph.
        rows, columns: of the content in the network's input, in its pixels.
        size: (height, width) wanted.
        target: rows and columns of the content within a larger result; None where it fills that.
        whole: (height, width) of the result.
    """

    placement: Placement
    rows: slice
    columns: slice
    size: tuple[int, int]
    target: tuple[slice, slice] | None
    whole: tuple[int, int]

    @classmethod
    def of(cls, box: Letterbox, output_size: OutputSize, placement: Placement) -> MapArea:
        """The area of a letterboxed frame: "frame" resamples the content to its size, "network" keeps bars around it."""
        if output_size == "frame":
            return cls(placement, box.rows, box.columns, box.frame, None, box.frame)
        if output_size == "content" or box.fills_network:
            return cls(placement, box.rows, box.columns, box.content, None, box.content)
        return cls(placement, box.rows, box.columns, box.content, (box.rows, box.columns), box.network)

    @property
    def stride(self) -> int:
        """Pixels of the network's input per cell of a map."""
        return OUTPUT_STRIDE if self.placement == "host" else 1

    def cropped(self, source: Array, *, stride: int | None = None) -> Array:
        """The wanted part of (..., h, w), contiguous; `stride` where it is not that of the placement."""
        step = self.stride if stride is None else stride
        rows = slice(self.rows.start // step, self.rows.stop // step)
        columns = slice(self.columns.start // step, self.columns.stop // step)
        return np.ascontiguousarray(source[..., rows, columns])

    def resized(self, plane: Array, pool: BufferPool) -> Array:
        """A cropped float32 plane at the wanted size, bilinear; the plane itself where it has that size already."""
        if plane.shape == self.size:
            return plane
        result = pool.take(self.size)
        cv2.resize(plane, self.size[::-1], dst=result, interpolation=cv2.INTER_LINEAR)
        return result

    def placed(self, result: Array, unknown: float, pool: BufferPool) -> Array:
        """`result` among bars of `unknown`, where there are any."""
        if self.target is None:
            return result
        framed = pool.take((*self.whole, *result.shape[2:]), result.dtype)
        framed.fill(unknown)
        framed[self.target] = result
        return framed
