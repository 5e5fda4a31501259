"""The objects of a view: exact boxes, classes, and how much of each is seen. An object is one piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .camera import CANONICAL_SIZE, Intrinsics, Pose
from .casting import Caster, PlacedPiece

__all__ = ["SeenObjects", "least_seen", "objects_in_view"]

_LEAST_PX, _LEAST_SIDE_PX = 60, 8
"""Visible pixels and sides that an object has at least at the canonical size, 288x384; at others in proportion."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenObjects:
    """The objects of one frame, in the order in which the world was made.

    Boxes are left, top, right, bottom: edges in pixels of the frame, the centre of a pixel at whole numbers
    (`edge_mtl.tasks.boxes`).

    Attributes:
        visible: (N, 4) float32, boxes of what is seen.
        amodal: (N, 4) float32, boxes of what would be seen within the frame if nothing stood in front.
        classes: (N,) int64, index into the world's classes of objects.
        pixels: (N,) int64, how many are seen.
        share: (N,) float32 in 0..1, of those that would be seen if nothing stood in front: 1 for an object in full view.
    """

    visible: np.ndarray
    amodal: np.ndarray
    classes: np.ndarray
    pixels: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def moved(self, right: int, down: int) -> SeenObjects:
        """The same in a larger frame, which begins so many pixels before this one."""
        by = np.array([right, down, right, down], np.float32)
        return SeenObjects(self.visible + by, self.amodal + by, self.classes, self.pixels, self.share)


def least_seen(canvas: tuple[int, int]) -> tuple[float, float]:
    """Pixels, and pixels high and wide, that are seen of an object at least in a frame of a size (H, W)."""
    scale = min(canvas[0] / CANONICAL_SIZE[0], canvas[1] / CANONICAL_SIZE[1])
    return max(1.0, _LEAST_PX * scale * scale), _LEAST_SIDE_PX * scale


def objects_in_view(
    caster: Caster,
    number: np.ndarray,
    pose: Pose,
    intrinsics: Intrinsics,
    *,
    class_of: Callable[[PlacedPiece, np.ndarray], int | None],
    least: tuple[float, float],
) -> tuple[SeenObjects, list[int]]:
    """The objects of a view, and which pieces they are.

    Args:
        number: (H, W) int, surface numbers from `Caster.view` of the same pose and camera.
        class_of: the class of a piece from itself and the visible pixels of each of its shapes; None where it is no object.
        least: visible pixels, and pixels high and wide, that are seen of an object at least.
    """
    height, width = number.shape
    least_px, least_side_px = least
    counts = np.bincount(number[number >= 0], minlength=len(caster.owner))
    kept: list[int] = []
    classes, pixels, visible = [], [], []
    for index, piece in enumerate(caster.pieces):
        own = counts[piece.first : piece.first + len(piece.shapes)]
        if own.sum() < least_px:
            continue
        label = class_of(piece, own)
        if label is None:
            continue
        box = _box((number >= piece.first) & (number < piece.first + len(piece.shapes)))
        if min(box[2] - box[0], box[3] - box[1]) < least_side_px:
            continue
        kept.append(index)
        classes.append(label)
        pixels.append(int(own.sum()))
        visible.append(box)
    whole = [(_box(mask), int(mask.sum())) for mask in caster.silhouettes(kept, pose, intrinsics, height, width)]
    found = SeenObjects(
        np.array(visible, np.float32).reshape(-1, 4),
        np.array([box for box, _ in whole], np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(pixels, np.int64),
        np.array([seen / alone for seen, (_, alone) in zip(pixels, whole, strict=True)], np.float32),
    )
    return found, kept


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the pixels of a mask, which has some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5
