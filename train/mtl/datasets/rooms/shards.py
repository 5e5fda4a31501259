"""One shard of rooms on disk (see `mtl.datasets.worlds.shards`).

Layout of a folder: image.npy (N, H, W, 3) uint8; label.npy (N, H, W) uint8; depth.npy (N, H, W) float32
metres; normals.npy (N, H, W, 3) int16, unit vectors times 32767; meta.npy (N,) seed and intrinsics.
objects-1.npz, 1 being the version of what an object is: `offsets` (N + 1,) int64, the objects of frame i are
offsets[i] to offsets[i + 1] of `visible` (M, 4) float32, `amodal` (M, 4) float32, `classes` (M,) int64, `pixels`
(M,) int64 and `share` (M,) float32 (see `SeenObjects`); `scene` (N,) int64. It can be added to a folder later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from edge_mtl.files import write_atomic
from mtl.datasets.worlds import shards
from mtl.datasets.worlds.objects import SeenObjects

from .instances import OBJECTS_VERSION
from .render import RenderOptions, RoomSample, cast_room, render_room

_OBJECTS = f"objects-{OBJECTS_VERSION}.npz"
_MAKER = "train/make_rooms.py"

_FIELDS = tuple(field.name for field in fields(SeenObjects))

_MAPS: dict[str, tuple[type, tuple[int, ...]]] = {
    "image": (np.uint8, (3,)),
    "label": (np.uint8, ()),
    "depth": (np.float32, ()),
    "normals": (np.int16, (3,)),
}
"""Type and last sides of each array of maps."""


def write_shard(folder: Path, samples: Sequence[RoomSample]) -> None:
    """Write a shard beside its place and move it there."""
    arrays = {
        "image": np.stack([sample.image for sample in samples]),
        "label": np.stack([sample.label for sample in samples]),
        "depth": np.stack([sample.depth_m for sample in samples]),
        "normals": np.stack([np.rint(sample.normals * shards.NORMAL_SCALE).astype(np.int16) for sample in samples]),
        "meta": shards.stored_meta([(sample.seed, sample.intrinsics) for sample in samples]),
    }
    known = [(one.objects, one.scene) for one in samples if one.objects is not None and one.scene is not None]
    shards.write_shard(folder, arrays, {_OBJECTS: _packed(known)} if len(known) == len(samples) else {})


def render_shard(folder: Path, seeds: range, height: int, width: int, options: RenderOptions) -> None:
    """Render one frame for every seed into a shard."""
    write_shard(folder, [render_room(seed, height, width, options=options) for seed in seeds])


def count_frames(folder: Path) -> int:
    """How many frames a finished shard has. Raises BuildError: it is damaged."""
    return shards.count_frames(folder, maker=_MAKER)


def has_objects(folder: Path) -> bool:
    """Whether a finished shard says what its objects are."""
    return (folder / _OBJECTS).is_file()


def add_objects(folder: Path, height: int, width: int, options: RenderOptions) -> None:
    """Say of a finished shard, in a file beside its images, what the objects of its frames are.

    Rooms are cast from the seeds that the shard names; nothing is rendered.

    Raises:
        BuildError: the shard is damaged.
        OSError: there is no room for the file; the shard is as it was.
    """
    with shards.readable(folder, maker=_MAKER):
        seeds = shards.read_meta(folder)["seed"].tolist()
    write_atomic(folder / _OBJECTS, _packed([cast_room(seed, height, width, options=options) for seed in seeds]))


def read_frame(folder: Path, index: int, *, objects: bool = False) -> RoomSample:
    """One frame of a finished shard, read through a memory map into arrays of the caller's own.

    Nothing stays open, so any number of shards can be visited, from any process.

    Args:
        objects: whether its objects and kind of room are read too; the shard has to know them.
    Raises:
        BuildError: the shard is damaged.
    """
    with shards.readable(folder, maker=_MAKER):
        image, label, depth, stored = (shards.read_map(folder, name, index, *kind) for name, kind in _MAPS.items())
        meta = shards.read_meta(folder)[index]
        found, scene = _unpacked(folder, index) if objects else (None, None)
    fx, fy, cx, cy = meta["intrinsics"].tolist()
    return RoomSample(image, label, depth, shards.unit_normals(stored), (fx, fy, cx, cy), int(meta["seed"]), found, scene)


def _packed(frames: Sequence[tuple[SeenObjects, int]]) -> bytes:
    """The content of objects-1.npz."""
    every = [{name: getattr(objects, name) for name in _FIELDS} for objects, _ in frames]
    return shards.packed(every, {"scene": np.array([scene for _, scene in frames], np.int64)})


def _unpacked(folder: Path, index: int) -> tuple[SeenObjects, int]:
    found, facts = shards.unpacked(folder / _OBJECTS, index, _FIELDS, ("scene",))
    return SeenObjects(**found), facts["scene"]
