"""One shard on disk: some frames in a folder of memory-mappable arrays, which appears whole or not at all.

Layout of a folder: image.npy (N, H, W, 3) uint8; label.npy (N, H, W) uint8; depth.npy (N, H, W) float32
metres; normals.npy (N, H, W, 3) int16, unit vectors times 32767; meta.npy (N,) seed and intrinsics.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .render import RenderOptions, RoomSample, render_room

NORMAL_SCALE = 32767

_META = np.dtype([("seed", np.int64), ("intrinsics", np.float64, (4,))])


def write_shard(folder: Path, samples: Sequence[RoomSample]) -> None:
    """Write a shard beside its place and move it there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
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
        os.replace(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():  # else another process made the same shard first
            raise


def render_shard(folder: Path, seeds: range, height: int, width: int, options: RenderOptions) -> None:
    """Render one frame for every seed into a shard."""
    write_shard(folder, [render_room(seed, height, width, options=options) for seed in seeds])


def read_frame(folder: Path, index: int) -> RoomSample:
    """One frame of a finished shard, read through a memory map into arrays of the caller's own.

    Nothing stays open, so any number of shards can be visited, from any process.
    """
    image, label, depth, stored = (
        np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[index]) for name in ("image", "label", "depth", "normals")
    )
    normals = stored.astype(np.float32)
    normals /= np.maximum(np.sqrt((normals * normals).sum(-1, keepdims=True)), 1)
    meta = np.load(folder / "meta.npy")[index]
    fx, fy, cx, cy = meta["intrinsics"].tolist()
    return RoomSample(image, label, depth, normals, (fx, fy, cx, cy), int(meta["seed"]))
