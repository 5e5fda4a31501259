"""Where objects are in space: a relation between boxes and depth of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_mtl.tasks import Boxes

if TYPE_CHECKING:
    from edge_mtl.image.frames import Intrinsics

__all__ = ["Boxes3D", "boxes_in_space"]

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Boxes3D:
    """Objects in the camera's frame: x right, y down, z forward, in metres. All is NaN where the depth in a box is unknown.

    Attributes:
        boxes: those of the frame, in the same order.
        centres: (N, 3) float32: the middle of each box, at the median of the depth inside it.
        sizes: (N, 2) float32: its width and height at that depth.
    """

    boxes: Boxes
    centres: Array
    sizes: Array

    def __len__(self) -> int:
        return len(self.centres)


def boxes_in_space(boxes: Boxes, depth_m: Array, camera: Intrinsics) -> Boxes3D:
    """Boxes at the median of the known depth inside each: what fills less than half of its box is not seen.

    Args:
        boxes: in pixels of `depth_m`.
        depth_m: (H, W) metres along z, NaN where unknown.
        camera: of these pixels.
    """
    distances = np.array([_median(depth_m, box) for box in boxes.xyxy.tolist()], np.float64)
    edges = boxes.xyxy.astype(np.float64).reshape(-1, 2, 2)
    focal, principal = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    across = (edges.mean(axis=1) - principal) / focal * distances[:, None]
    sizes = (edges[:, 1] - edges[:, 0]) / focal * distances[:, None]
    centres = np.concatenate([across, distances[:, None]], axis=1)
    return Boxes3D(boxes, centres.astype(np.float32), sizes.astype(np.float32))


def _median(depth_m: Array, box: list[float]) -> float:
    """Of the known pixels whose centres are inside; of the nearest one where a box lies between centres. NaN without any."""
    inside = []
    for start, stop, limit in zip(box[:2], box[2:], depth_m.shape[::-1], strict=True):
        first, last = int(np.ceil(start)), int(np.floor(stop))
        if last < first:
            first = last = round((start + stop) / 2)
        inside.append(slice(max(min(first, limit - 1), 0), max(last, 0) + 1))
    part = depth_m[inside[1], inside[0]]
    known = part[np.isfinite(part)]
    return float(np.median(known)) if known.size else float("nan")
