"""Procedural furnished rooms with exact labels, depth and normals, rendered once and kept on disk."""

from .dataset import SPLIT_FIRST_SEED, RoomsDataset
from .labels import CLASS_NAMES, PALETTE, VOID, Label
from .render import RENDERER_VERSION, RenderOptions, Room, RoomSample, render_room

__all__ = [
    "CLASS_NAMES",
    "PALETTE",
    "RENDERER_VERSION",
    "SPLIT_FIRST_SEED",
    "VOID",
    "Label",
    "RenderOptions",
    "Room",
    "RoomSample",
    "RoomsDataset",
    "render_room",
]
