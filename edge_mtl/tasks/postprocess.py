"""From a graph's outputs to maps: upsampling, classes, metres, unit normals. The only home of post-processing.

Knows both placements (quarter-resolution maps of "host" graphs, finished maps of "graph" graphs) and the change from the
canonical camera to the frame's; knows nothing about runtimes. Definition: bilinear with half-pixel centres, then argmax,
or division to unit length. What is unknown is void or NaN, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import OUTPUT_STRIDE, Intrinsics, Letterbox
from edge_mtl.image.upsample import upsampled_argmax, upsampled_units
from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION, VOID

__all__ = ["HOST_OUTPUTS", "CameraChange", "Maps", "OutputSize", "camera_change", "finish"]

Array = np.ndarray
OutputSize = Literal["frame", "network"]

HOST_OUTPUTS: Mapping[str, str] = {
    SEGMENTATION: "segmentation_logits",
    DEPTH: "depth_quarter",
    NORMALS: "normals_quarter",
}
"""Output names of "host" graphs by task; those of "graph" graphs are the task names."""


@dataclass(frozen=True, slots=True)
class Maps:
    """Finished maps; None for a task the graph does not have.

    Attributes:
        segmentation: (H, W) uint8, class index, VOID where unknown.
        depth: (H, W) float32 metres, NaN where unknown.
        normals: (H, W, 3) float32 unit, NaN where unknown.
        confidence: makes (H, W) float32 in 0..1 when called; None where the graph has no logits.
        bad_values: places where the network's answer was NaN, Inf, or a depth that is not positive.
    """

    segmentation: Array | None
    depth: Array | None
    normals: Array | None
    confidence: Callable[[], Array] | None
    bad_values: int


@dataclass(frozen=True, slots=True)
class CameraChange:
    """From the canonical camera to another one that sees the same image.

    Attributes:
        depth_factor: f / f_c.
        normals: (3, 3) matrix K^T K_c^-T, row by row; it is applied before normalising.
    """

    depth_factor: float
    normals: tuple[tuple[float, float, float], ...]


@lru_cache(maxsize=64)
def camera_change(camera: Intrinsics, canonical: Intrinsics) -> CameraChange | None:
    """How to convert canonical answers to `camera`, both in network pixels; None where nothing changes.

    A plane n.X = h seen through K has the inverse depth n^T K^-1 p / h at pixel p: the image fixes K^-T n.
    """
    if camera == canonical:
        return None
    matrix = camera.matrix().T @ np.linalg.inv(canonical.matrix()).T
    rows = tuple((float(a), float(b), float(c)) for a, b, c in matrix)
    return CameraChange(camera.fx / canonical.fx, rows)


def finish(
    outputs: Mapping[str, Array],
    box: Letterbox,
    *,
    output_size: OutputSize,
    change: CameraChange | None,
    pool: BufferPool,
) -> Maps:
    """Turn the outputs of either placement into maps.

    Args:
        outputs: by name, batch 1, as described in `edge_mtl.bundle`; the arrays may become part of the result.
        box: how the frame was letterboxed.
        output_size: "frame" resamples the content to the frame's size, "network" keeps the network's with void bars.
        change: from `camera_change`.
        pool: where results and working memory come from.
    """
    in_graph = not any(name in outputs for name in HOST_OUTPUTS.values())
    area = _Area.of(box, output_size, cell=1 if in_graph else OUTPUT_STRIDE)
    segmentation = depth = normals = confidence = None
    bad = 0
    if in_graph:
        if SEGMENTATION in outputs:
            segmentation = _finish_labels(outputs[SEGMENTATION][0], area, pool)
        if DEPTH in outputs:
            depth, flaws = _finish_depth(outputs[DEPTH][0], area, change, pool)
            bad += flaws
        if NORMALS in outputs:
            normals, flaws = _finish_normals(cv2.split(outputs[NORMALS][0]), area, change, pool)
            bad += flaws
    else:
        if HOST_OUTPUTS[SEGMENTATION] in outputs:
            logits = area.cropped(outputs[HOST_OUTPUTS[SEGMENTATION]][0])
            segmentation, confidence, flaws = _finish_logits(logits, area, pool)
            bad += flaws
        if HOST_OUTPUTS[DEPTH] in outputs:
            depth, flaws = _finish_depth(outputs[HOST_OUTPUTS[DEPTH]][0, 0], area, change, pool)
            bad += flaws
        if HOST_OUTPUTS[NORMALS] in outputs:
            normals, flaws = _finish_normals(outputs[HOST_OUTPUTS[NORMALS]][0], area, change, pool)
            bad += flaws
    return Maps(segmentation, depth, normals, confidence, bad)


@dataclass(frozen=True, slots=True)
class _Area:
    """Which part of a source map is wanted, at which size, and where it goes in the result."""

    rows: slice
    columns: slice
    size: tuple[int, int]
    target: tuple[slice, slice] | None
    whole: tuple[int, int]

    @classmethod
    def of(cls, box: Letterbox, output_size: OutputSize, *, cell: int) -> _Area:
        rows = slice(box.rows.start // cell, box.rows.stop // cell)
        columns = slice(box.columns.start // cell, box.columns.stop // cell)
        if output_size == "frame":
            return cls(rows, columns, box.frame, None, box.frame)
        return cls(rows, columns, box.content, None if box.fills_network else (box.rows, box.columns), box.network)

    def cropped(self, source: Array) -> Array:
        """The wanted part of (..., h, w), contiguous."""
        return np.ascontiguousarray(source[..., self.rows, self.columns])

    def resized(self, plane: Array, pool: BufferPool) -> Array:
        """A cropped float32 plane at the wanted size; the plane itself where it has that size already."""
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


def _finish_labels(labels: Array, area: _Area, pool: BufferPool) -> Array:
    part = area.cropped(labels)
    if part.shape != area.size:
        part = cv2.resize(part, area.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return area.placed(part, VOID, pool)


def _finish_logits(logits: Array, area: _Area, pool: BufferPool) -> tuple[Array, Callable[[], Array], int]:
    unknown = None
    if not math.isfinite(float(logits.sum())):
        flawed = ~np.isfinite(logits).all(axis=0)
        unknown = area.resized(flawed.astype(np.float32), pool) > 0 if flawed.any() else None
        logits = np.nan_to_num(logits, nan=0.0, posinf=0.0, neginf=0.0)
    labels = upsampled_argmax(logits, area.size, pool=pool)
    if unknown is not None:
        labels[unknown] = VOID

    def confidence() -> Array:
        result = _confidence(logits, area, pool)
        if unknown is not None:
            result[unknown] = 0.0
        return area.placed(result, 0.0, pool)

    return area.placed(labels, VOID, pool), confidence, 0 if unknown is None else int(flawed.sum())


def _confidence(logits: Array, area: _Area, pool: BufferPool) -> Array:
    """Softmax of the upsampled logits at the winning class: 1 / sum of exp(logit - largest), (H, W) float32."""
    best = area.resized(logits[0], pool).copy()
    for plane in logits[1:]:
        cv2.max(best, area.resized(plane, pool), dst=best)
    total = pool.take(area.size)
    total.fill(0.0)
    for plane in logits:
        share = pool.take(area.size)
        cv2.subtract(area.resized(plane, pool), best, dst=share)
        cv2.exp(share, dst=share)
        cv2.add(total, share, dst=total)
    cv2.divide(1.0, total, dst=total)
    return total


def _finish_depth(depth: Array, area: _Area, change: CameraChange | None, pool: BufferPool) -> tuple[Array, int]:
    plane = area.cropped(depth)
    bad = 0
    if not (float(plane.min()) > 0 and math.isfinite(float(plane.max()))):  # false for NaN as well
        flawed = ~(np.isfinite(plane) & (plane > 0))
        bad = int(flawed.sum())
        plane = np.where(flawed, np.float32(np.nan), plane)
    if change is not None:
        plane = plane * np.float32(change.depth_factor)
    return area.placed(area.resized(plane, pool), np.nan, pool), bad


def _finish_normals(
    normals: Array | Sequence[Array], area: _Area, change: CameraChange | None, pool: BufferPool
) -> tuple[Array, int]:
    planes = area.cropped(np.asarray(normals))
    bad = 0
    if not math.isfinite(float(planes.sum())):
        flawed = ~np.isfinite(planes).all(axis=0)
        bad = int(flawed.sum())
        planes = np.where(flawed, np.float32(np.nan), planes)
    if change is not None:
        planes = np.tensordot(np.array(change.normals, np.float32), planes, axes=1)
    return area.placed(upsampled_units(planes, area.size, pool=pool), np.nan, pool), bad
