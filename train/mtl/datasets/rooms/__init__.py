"""Procedural furnished rooms with exact labels, depth and normals, rendered once and kept on disk."""

from mtl.datasets.worlds.cache import SPLIT_FIRST_SEED

from .dataset import RoomsDataset
from .instances import OBJECT_CLASSES, SCENE_CLASSES
from .labels import CLASS_NAMES, PALETTE, VOID, Label
from .render import RENDERER_VERSION, RenderOptions, Room, RoomSample, cast_room, render_room

__all__ = [
    "CLASS_NAMES",
    "OBJECT_CLASSES",
    "PALETTE",
    "RENDERER_VERSION",
    "SCENE_CLASSES",
    "SPLIT_FIRST_SEED",
    "VOID",
    "Label",
    "RenderOptions",
    "Room",
    "RoomSample",
    "RoomsDataset",
    "cast_room",
    "render_room",
]
