"""The pieces of a room as objects of a frame: exact boxes, classes, and how much of each is seen.

An object is one piece of furniture with what stands on it. Its class is the label that most of its visible pixels have; pieces
that count as wall or floor (doors, rugs) are none. Knows nothing about images and files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import CANONICAL_SIZE, Intrinsics, Pose
from .casting import Caster
from .labels import Label

__all__ = [
    "OBJECTS_VERSION",
    "OBJECT_CLASSES",
    "OBJECT_LABELS",
    "SCENE_CLASSES",
    "RoomObjects",
    "least_seen",
    "objects_seen",
    "scene_index",
]

OBJECTS_VERSION = 1
"""Goes up with every change of what the objects of a frame are; files of another version are not read."""

_NO_OBJECTS = (Label.CEILING, Label.FLOOR, Label.WALL)
OBJECT_LABELS = tuple(label for label in Label if label not in _NO_OBJECTS)
"""NYU-13 without wall, floor and ceiling, in its order: the labels of objects, by their class index."""
OBJECT_CLASSES = tuple(label.name.lower() for label in OBJECT_LABELS)

_SCENE_NAMES = {"bedroom": "bedroom", "office": "office", "living": "living room", "kitchen": "kitchen"}
SCENE_CLASSES = tuple(_SCENE_NAMES.values())
"""What a room is furnished as."""

_LEAST_PX, _LEAST_SIDE_PX = 60, 8
"""Visible pixels and sides that an object has at least at the canonical size, 288x384; at others in proportion."""


@dataclass(frozen=True, slots=True, eq=False)
class RoomObjects:
    """The objects of one frame, in the order in which the room was furnished.

    Boxes are left, top, right, bottom: edges in pixels of the frame, the centre of a pixel at whole numbers
    (`edge_mtl.tasks.boxes`).

    Attributes:
        visible: (N, 4) float32, boxes of what is seen.
        amodal: (N, 4) float32, boxes of what would be seen within the frame if nothing stood in front.
        classes: (N,) int64, index into `OBJECT_CLASSES`.
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

    def moved(self, right: int, down: int) -> RoomObjects:
        """The same in a larger frame, which begins so many pixels before this one."""
        by = np.array([right, down, right, down], np.float32)
        return RoomObjects(self.visible + by, self.amodal + by, self.classes, self.pixels, self.share)


def least_seen(canvas: tuple[int, int]) -> tuple[float, float]:
    """Pixels, and pixels high and wide, that are seen of an object at least in a frame of a size (H, W)."""
    scale = min(canvas[0] / CANONICAL_SIZE[0], canvas[1] / CANONICAL_SIZE[1])
    return max(1.0, _LEAST_PX * scale * scale), _LEAST_SIDE_PX * scale


def scene_index(kind: str) -> int:
    """What a room is furnished as, `Scene.kind`, as an index into `SCENE_CLASSES`."""
    return SCENE_CLASSES.index(_SCENE_NAMES[kind])


def objects_seen(
    caster: Caster, number: np.ndarray, pose: Pose, intrinsics: Intrinsics, *, canvas: tuple[int, int]
) -> RoomObjects:
    """The objects of a view.

    Args:
        number: (H, W) int, surface numbers from `Caster.view` of the same pose and camera.
        canvas: (height, width) of the frame that the view is part of, which says how small an object may be.
    """
    height, width = number.shape
    least_px, least_side_px = least_seen(canvas)
    counts = np.bincount(number[number >= 0], minlength=len(caster.owner))
    kept: list[int] = []
    classes, pixels, visible = [], [], []
    for index, piece in enumerate(caster.pieces):
        own = counts[piece.first : piece.first + len(piece.shapes)]
        if own.sum() < least_px:
            continue
        by_label = np.bincount([shape.label for shape in piece.shapes], weights=own, minlength=len(Label))
        label = Label(int(by_label.argmax()))
        if label in _NO_OBJECTS:
            continue
        box = _box((number >= piece.first) & (number < piece.first + len(piece.shapes)))
        if min(box[2] - box[0], box[3] - box[1]) < least_side_px:
            continue
        kept.append(index)
        classes.append(OBJECT_LABELS.index(label))
        pixels.append(int(own.sum()))
        visible.append(box)
    whole = [(_box(mask), int(mask.sum())) for mask in caster.silhouettes(kept, pose, intrinsics, height, width)]
    return RoomObjects(
        np.array(visible, np.float32).reshape(-1, 4),
        np.array([box for box, _ in whole], np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(pixels, np.int64),
        np.array([seen / alone for seen, (_, alone) in zip(pixels, whole, strict=True)], np.float32),
    )


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the pixels of a mask, which has some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5
