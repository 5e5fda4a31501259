"""Shards on disk: some frames in a folder of memory-mappable arrays, which appears whole or not at all.

A world says which arrays there are; `meta.npy` (N,) of seed and intrinsics is in every shard. What a frame has a varying number
of is in .npz files, where the entries of frame i are `offsets[i]` to `offsets[i + 1]` of every other array.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.array_files import read_array
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.unfinished import new_folder

__all__ = ["NORMAL_SCALE", "count_frames", "packed", "read_map", "read_meta", "readable", "stored_meta", "unit_normals",
           "unpacked", "write_shard"]  # fmt: skip

Array = np.ndarray
Intrinsics = tuple[float, float, float, float]

NORMAL_SCALE = 32767
"""Unit vectors are stored as int16 times this."""

_META = np.dtype([("seed", np.int64), ("intrinsics", np.float64, (4,))])


def write_shard(folder: Path, arrays: Mapping[str, Array], files: Mapping[str, bytes]) -> None:
    """Write a shard beside its place and move it there; `arrays` by name without .npy, `files` by whole name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as temporary:
        try:
            for name, array in arrays.items():
                with (temporary / f"{name}.npy").open("wb") as file:
                    np.save(file, array)
                    file.flush()
                    os.fsync(file.fileno())
            for name, content in files.items():
                write_atomic(temporary / name, content)
            os.replace(temporary, folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not folder.is_dir():  # else another process made the same shard first
                raise


def stored_meta(frames: Sequence[tuple[int, Intrinsics]]) -> Array:
    """(N,) seeds and intrinsics, the content of meta.npy."""
    return np.array(list(frames), _META)


def count_frames(folder: Path, *, maker: str) -> int:
    """How many frames a finished shard has. Raises BuildError: it is damaged."""
    with readable(folder, maker=maker):
        return len(read_meta(folder))


@contextmanager
def readable(folder: Path, *, maker: str) -> Iterator[None]:
    """What damaged files raise within the block, as one error that names the shard, and the script that makes it again."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as exc:
        raise BuildError(f"{folder} cannot be read ({exc}). Remove it, run {maker} again") from exc


def read_map(folder: Path, name: str, index: int, kind: type, last: tuple[int, ...] = ()) -> Array:
    """One frame of an array of maps (N, H, W, *last), in memory of the caller's own. Raises ValueError for another array."""
    found = read_array(folder / f"{name}.npy", mapped=True)
    if found.dtype != kind or found.ndim != 3 + len(last) or found.shape[3:] != last:
        raise ValueError(f"{name}.npy should be (N, H, W, ...) of {np.dtype(kind)}, found {found.dtype} of {found.shape}")
    return np.array(found[index])


def read_meta(folder: Path) -> Array:
    """Seed and intrinsics of every frame, (N,) with the fields "seed" and "intrinsics"."""
    found = read_array(folder / "meta.npy")
    if found.dtype != _META or found.ndim != 1:
        raise ValueError(f"meta.npy should be (N,) of seeds and cameras, found {found.dtype} of shape {found.shape}")
    return found


def unit_normals(stored: Array) -> Array:
    """(H, W, 3) int16 as float32 vectors of length 1, or 0 where there is none."""
    normals = stored.astype(np.float32)
    normals /= np.maximum(np.sqrt((normals * normals).sum(-1, keepdims=True)), 1)
    return normals


def packed(frames: Sequence[Mapping[str, Array]], facts: Mapping[str, Array]) -> bytes:
    """The content of an .npz: entries of every frame under the same names, and `facts` with one value a frame."""
    arrays: dict[str, Any] = {name: np.concatenate([one[name] for one in frames]) for name in frames[0]}
    counts = [len(next(iter(one.values()))) for one in frames]
    stream = io.BytesIO()
    arrays |= {"offsets": np.cumsum([0, *counts], dtype=np.int64), **facts}
    np.savez(stream, **arrays)
    return stream.getvalue()


def unpacked(path: Path, index: int, names: Sequence[str], facts: Sequence[str]) -> tuple[dict[str, Array], dict[str, int]]:
    """Entries of frame `index` by name, and its facts. Raises ValueError: the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            own = slice(*stored["offsets"][index : index + 2].tolist())
            return {name: stored[name][own] for name in names}, {name: int(stored[name][index]) for name in facts}
    except Exception as exc:  # damaged archives raise many kinds
        raise ValueError(f"{path.name} is damaged: {exc}") from exc
