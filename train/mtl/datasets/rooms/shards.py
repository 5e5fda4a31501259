"""One shard on disk: some frames in a folder of memory-mappable arrays, which appears whole or not at all.

Layout of a folder: image.npy (N, H, W, 3) uint8; label.npy (N, H, W) uint8; depth.npy (N, H, W) float32
metres; normals.npy (N, H, W, 3) int16, unit vectors times 32767; meta.npy (N,) seed and intrinsics.
objects-1.npz, 1 being the version of what an object is: `offsets` (N + 1,) int64, the objects of frame i are
offsets[i] to offsets[i + 1] of `visible` (M, 4) float32, `amodal` (M, 4) float32, `classes` (M,) int64, `pixels`
(M,) int64 and `share` (M,) float32 (see `RoomObjects`); `scene` (N,) int64. It can be added to a folder later.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.array_files import read_array
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.unfinished import new_folder

from .instances import OBJECTS_VERSION, RoomObjects
from .render import RenderOptions, RoomSample, cast_room, render_room

NORMAL_SCALE = 32767

_OBJECTS = f"objects-{OBJECTS_VERSION}.npz"

_FIELDS = tuple(field.name for field in fields(RoomObjects))

_MAPS: dict[str, tuple[type, tuple[int, ...]]] = {
    "image": (np.uint8, (3,)),
    "label": (np.uint8, ()),
    "depth": (np.float32, ()),
    "normals": (np.int16, (3,)),
}
"""Type and last sides of each array of maps."""

_META = np.dtype([("seed", np.int64), ("intrinsics", np.float64, (4,))])


def write_shard(folder: Path, samples: Sequence[RoomSample]) -> None:
    """Write a shard beside its place and move it there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as temporary:
        _fill_shard(folder, temporary, samples)


def _fill_shard(folder: Path, temporary: Path, samples: Sequence[RoomSample]) -> None:
    try:
        arrays = {
            "image": np.stack([sample.image for sample in samples]),
            "label": np.stack([sample.label for sample in samples]),
            "depth": np.stack([sample.depth_m for sample in samples]),
            "normals": np.stack([np.rint(sample.normals * NORMAL_SCALE).astype(np.int16) for sample in samples]),
            "meta": np.array([(sample.seed, sample.intrinsics) for sample in samples], _META),
        }
        for name, array in arrays.items():
            with (temporary / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        known = [(one.objects, one.scene) for one in samples if one.objects is not None and one.scene is not None]
        if len(known) == len(samples):
            write_atomic(temporary / _OBJECTS, _packed(known))
        os.replace(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():  # else another process made the same shard first
            raise


def render_shard(folder: Path, seeds: range, height: int, width: int, options: RenderOptions) -> None:
    """Render one frame for every seed into a shard."""
    write_shard(folder, [render_room(seed, height, width, options=options) for seed in seeds])


def count_frames(folder: Path) -> int:
    """How many frames a finished shard has. Raises BuildError: it is damaged."""
    with _readable(folder):
        return len(_meta(folder))


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
    with _readable(folder):
        seeds = _meta(folder)["seed"].tolist()
    write_atomic(folder / _OBJECTS, _packed([cast_room(seed, height, width, options=options) for seed in seeds]))


def read_frame(folder: Path, index: int, *, objects: bool = False) -> RoomSample:
    """One frame of a finished shard, read through a memory map into arrays of the caller's own.

    Nothing stays open, so any number of shards can be visited, from any process.

    Args:
        objects: whether its objects and kind of room are read too; the shard has to know them.
    Raises:
        BuildError: the shard is damaged.
    """
    with _readable(folder):
        image, label, depth, stored = (_map(folder, name, index) for name in _MAPS)
        meta = _meta(folder)[index]
        found, scene = _unpacked(folder, index) if objects else (None, None)
    normals = stored.astype(np.float32)
    normals /= np.maximum(np.sqrt((normals * normals).sum(-1, keepdims=True)), 1)
    fx, fy, cx, cy = meta["intrinsics"].tolist()
    return RoomSample(image, label, depth, normals, (fx, fy, cx, cy), int(meta["seed"]), found, scene)


def _packed(frames: Sequence[tuple[RoomObjects, int]]) -> bytes:
    """The content of objects-1.npz."""
    every = [objects for objects, _ in frames]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in every]) for name in _FIELDS}
    arrays["offsets"] = np.cumsum([0, *map(len, every)], dtype=np.int64)
    arrays["scene"] = np.array([scene for _, scene in frames], np.int64)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """What damaged files raise within the block, as one error that names the shard."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as exc:
        raise BuildError(f"{folder} cannot be read ({exc}). Remove it, run train/make_rooms.py again") from exc


def _map(folder: Path, name: str, index: int) -> np.ndarray:
    """One frame of an array of maps."""
    kind, last = _MAPS[name]
    found = read_array(folder / f"{name}.npy", mapped=True)
    if found.dtype != kind or found.ndim != 3 + len(last) or found.shape[3:] != last:
        raise ValueError(f"{name}.npy should be (N, H, W, ...) of {np.dtype(kind)}, found {found.dtype} of {found.shape}")
    return np.array(found[index])


def _meta(folder: Path) -> np.ndarray:
    """Seed and intrinsics of every frame."""
    found = read_array(folder / "meta.npy")
    if found.dtype != _META or found.ndim != 1:
        raise ValueError(f"meta.npy should be (N,) of seeds and cameras, found {found.dtype} of shape {found.shape}")
    return found


def _unpacked(folder: Path, index: int) -> tuple[RoomObjects, int]:
    try:
        with np.load(folder / _OBJECTS, allow_pickle=False) as stored:
            own = slice(*stored["offsets"][index : index + 2].tolist())
            return RoomObjects(*(stored[name][own] for name in _FIELDS)), int(stored["scene"][index])
    except Exception as exc:  # damaged archives raise many kinds
        raise ValueError(f"{_OBJECTS} is damaged: {exc}") from exc
