"""The pieces of a room as objects of a frame.

An object is one piece of furniture with what stands on it. Its class is the label that most of its visible pixels have; pieces
that count as wall or floor (doors, rugs) are none. Knows nothing about images and files.
"""

from __future__ import annotations

import numpy as np

from mtl.datasets.worlds.camera import Intrinsics, Pose
from mtl.datasets.worlds.casting import Caster, PlacedPiece
from mtl.datasets.worlds.objects import SeenObjects, least_seen, objects_in_view

from .labels import Label

__all__ = ["OBJECTS_VERSION", "OBJECT_CLASSES", "OBJECT_LABELS", "SCENE_CLASSES", "objects_seen", "scene_index"]

OBJECTS_VERSION = 1
"""Goes up with every change of what the objects of a frame are; files of another version are not read."""

_NO_OBJECTS = (Label.CEILING, Label.FLOOR, Label.WALL)
OBJECT_LABELS = tuple(label for label in Label if label not in _NO_OBJECTS)
"""NYU-13 without wall, floor and ceiling, in its order: the labels of objects, by their class index."""
OBJECT_CLASSES = tuple(label.name.lower() for label in OBJECT_LABELS)

_SCENE_NAMES = {"bedroom": "bedroom", "office": "office", "living": "living room", "kitchen": "kitchen"}
SCENE_CLASSES = tuple(_SCENE_NAMES.values())
"""What a room is furnished as."""


def scene_index(kind: str) -> int:
    """What a room is furnished as, `Scene.kind`, as an index into `SCENE_CLASSES`."""
    return SCENE_CLASSES.index(_SCENE_NAMES[kind])


def objects_seen(
    caster: Caster, number: np.ndarray, pose: Pose, intrinsics: Intrinsics, *, canvas: tuple[int, int]
) -> SeenObjects:
    """The objects of a view, by their index into `OBJECT_CLASSES`.

    Args:
        number: (H, W) int, surface numbers from `Caster.view` of the same pose and camera.
        canvas: (height, width) of the frame that the view is part of, which says how small an object may be.
    """
    return objects_in_view(caster, number, pose, intrinsics, class_of=_class_of, least=least_seen(canvas))[0]


def _class_of(piece: PlacedPiece, seen: np.ndarray) -> int | None:
    by_label = np.bincount([shape.label for shape in piece.shapes], weights=seen, minlength=len(Label))
    label = Label(int(by_label.argmax()))
    return None if label in _NO_OBJECTS else OBJECT_LABELS.index(label)
