"""One shard of streets on disk (see `mtl.datasets.worlds.shards`).

Layout of a folder: image.npy (N, H, W, 3) uint8; label.npy, drivable.npy and lanes.npy (N, H, W) uint8; depth.npy (N, H, W)
float16 metres; normals.npy (N, H, W, 3) int16, unit vectors times 32767; meta.npy (N,) seed and intrinsics; objects.npz: boxes
(see `SeenObjects`) and `truncated`, and `scene`, `weather` and `time` of every frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from mtl.datasets.worlds import shards
from mtl.datasets.worlds.objects import SeenObjects

from .render import StreetOptions, StreetSample, render_street

__all__ = ["count_frames", "read_frame", "render_shard", "write_shard"]

_MAKER = "train/make_streets.py"
_OBJECTS = "objects.npz"
_BOXES = tuple(field.name for field in fields(SeenObjects))
_FACTS = ("scene", "weather", "time")
_MAPS: dict[str, tuple[type, tuple[int, ...]]] = {
    "image": (np.uint8, (3,)),
    "label": (np.uint8, ()),
    "drivable": (np.uint8, ()),
    "lanes": (np.uint8, ()),
    "depth": (np.float16, ()),
    "normals": (np.int16, (3,)),
}
"""Type and last sides of each array of maps. A float16 is within 0.05 % of a depth."""


def write_shard(folder: Path, samples: Sequence[StreetSample]) -> None:
    """Write a shard beside its place and move it there."""
    arrays = {
        "image": np.stack([sample.image for sample in samples]),
        "label": np.stack([sample.label for sample in samples]),
        "drivable": np.stack([sample.drivable for sample in samples]),
        "lanes": np.stack([sample.lanes for sample in samples]),
        "depth": np.stack([sample.depth_m.astype(np.float16) for sample in samples]),
        "normals": np.stack([np.rint(sample.normals * shards.NORMAL_SCALE).astype(np.int16) for sample in samples]),
        "meta": shards.stored_meta([(sample.seed, sample.intrinsics) for sample in samples]),
    }
    boxes = [{**{name: getattr(one.objects, name) for name in _BOXES}, "truncated": one.truncated} for one in samples]
    facts = {name: np.array([getattr(one, name) for one in samples], np.int64) for name in _FACTS}
    shards.write_shard(folder, arrays, {_OBJECTS: shards.packed(boxes, facts)})


def render_shard(folder: Path, seeds: range, height: int, width: int, options: StreetOptions) -> None:
    """Render one frame for every seed into a shard."""
    write_shard(folder, [render_street(seed, height, width, options=options) for seed in seeds])


def count_frames(folder: Path) -> int:
    """How many frames a finished shard has. Raises BuildError: it is damaged."""
    return shards.count_frames(folder, maker=_MAKER)


def read_frame(folder: Path, index: int) -> StreetSample:
    """One frame of a finished shard, in arrays of the caller's own. Raises BuildError: the shard is damaged."""
    with shards.readable(folder, maker=_MAKER):
        image, label, drivable, lanes, depth, normals = (
            shards.read_map(folder, name, index, *kind) for name, kind in _MAPS.items()
        )
        meta = shards.read_meta(folder)[index]
        found, facts = shards.unpacked(folder / _OBJECTS, index, (*_BOXES, "truncated"), _FACTS)
    truncated = found.pop("truncated")
    fx, fy, cx, cy = meta["intrinsics"].tolist()
    return StreetSample(
        image,
        label,
        drivable,
        lanes,
        depth.astype(np.float32),
        shards.unit_normals(normals),
        (fx, fy, cx, cy),
        int(meta["seed"]),
        SeenObjects(**found),
        truncated,
        **facts,
    )
