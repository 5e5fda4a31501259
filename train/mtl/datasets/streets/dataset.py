"""Streets rendered once and kept on disk.

Layout: root / streets-<H>x<W>-<digest of options and renderer version> / split / shard-00000 / *.npy
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mtl.datasets.worlds.cache import CachedSamples, Split, made_shards, options_folder

from .render import DEFAULT_OPTIONS, RENDERER_VERSION, StreetOptions, StreetSample
from .shards import read_frame, render_shard

__all__ = ["FRAMES_PER_SHARD", "WORLD", "StreetsDataset", "cache_folder"]

FRAMES_PER_SHARD = 32

WORLD = "streets"
"""What folders of streets are called by."""


def cache_folder(root: Path, split: Split, height: int, width: int, options: StreetOptions) -> Path:
    """Where the shards of one split live; another renderer or other options get another folder."""
    return options_folder(root, WORLD, height, width, {"renderer": RENDERER_VERSION, **asdict(options)}) / split


class StreetsDataset(CachedSamples[StreetSample]):
    """A sequence of `StreetSample`, cached on disk; what is missing is rendered first (see `made_shards`, also for errors)."""

    def __init__(
        self,
        root: Path,
        split: Split,
        count: int,
        *,
        height: int,
        width: int,
        options: StreetOptions = DEFAULT_OPTIONS,
        workers: int = 2,
        progress: bool = True,
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
            title=f"streets {split} {height}x{width}" if progress else None,
        )
        super().__init__(folder, folders, count, per_shard=FRAMES_PER_SHARD, read=read_frame)
