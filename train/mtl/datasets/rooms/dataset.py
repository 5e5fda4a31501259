"""Rooms rendered once and kept on disk. NumPy only; knows nothing about torch.

Layout: root / rooms-<H>x<W>-<digest of options and renderer version> / split / shard-00000 / *.npy
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from mtl.datasets.worlds.cache import CachedSamples, Split, made_shards, options_folder, size_folders
from mtl.datasets.worlds.rendering_jobs import Job, run_jobs

from .render import DEFAULT_OPTIONS, RENDERER_VERSION, RenderOptions, RoomSample
from .shards import add_objects, has_objects, read_frame, render_shard

FRAMES_PER_SHARD = 32

WORLD = "rooms"
"""What folders of rooms are called by."""


def cache_folder(root: Path, split: Split, height: int, width: int, options: RenderOptions) -> Path:
    """Where the shards of one split live; another renderer or other options get another folder."""
    return options_folder(root, WORLD, height, width, {"renderer": RENDERER_VERSION, **asdict(options)}) / split


def holds_rooms(root: Path) -> bool:
    """Whether rooms of any size were rendered in a folder."""
    return bool(size_folders(root, WORLD))


class RoomsDataset(CachedSamples[RoomSample]):
    """A sequence of `RoomSample`, cached on disk; what is missing is rendered first.

    Only whole shards are made. A run that is killed leaves nothing half-made and the next continues where
    it stopped; a larger `count` renders only the shards that are new. What a shard holds depends on its
    seeds alone. With several workers the caller's script needs the usual `if __name__ == "__main__":`.

    Args:
        objects: whether frames have their objects and kind of room. Shards that were rendered before there were any get
            them first, by casting rays alone.
    Raises:
        ValueError: an unknown split, or a count or size out of range.
        RuntimeError: a worker process died; finished shards are kept.
    """

    def __init__(
        self,
        root: Path,
        split: Split,
        count: int,
        *,
        height: int,
        width: int,
        options: RenderOptions = DEFAULT_OPTIONS,
        workers: int = 2,
        progress: bool = True,
        objects: bool = False,
    ) -> None:
        folder = cache_folder(Path(root), split, height, width, options)
        folders = made_shards(
            folder,
            split,
            count,
            per_shard=FRAMES_PER_SHARD,
            render=render_shard,
            arguments=(height, width, options),
            workers=workers,
            title=f"rooms {split} {height}x{width}" if progress else None,
        )
        lacking = [folder for folder in folders if not has_objects(folder)] if objects else []
        if lacking:
            jobs = [Job(add_objects, (folder, height, width, options), FRAMES_PER_SHARD) for folder in lacking]
            run_jobs(jobs, workers, f"objects {split} {height}x{width}" if progress else None)
        super().__init__(folder, folders, count, per_shard=FRAMES_PER_SHARD, read=partial(read_frame, objects=objects))
