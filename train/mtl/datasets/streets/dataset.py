"""Streets rendered once and kept on disk.

Layout: root / streets-<H>x<W>-<digest of options and renderer version> / split / shard-00000 / *.npy
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from mtl.datasets.worlds.cache import Split, made_shards, options_folder

from .render import DEFAULT_OPTIONS, RENDERER_VERSION, StreetOptions, StreetSample
from .shards import read_frame, render_shard

__all__ = ["FRAMES_PER_SHARD", "StreetsDataset", "cache_folder", "size_folders"]

FRAMES_PER_SHARD = 32

_FOLDER = re.compile(r"streets-\d+x\d+-[0-9a-f]{10}")


def cache_folder(root: Path, split: Split, height: int, width: int, options: StreetOptions) -> Path:
    """Where the shards of one split live; another renderer or other options get another folder."""
    return options_folder(root, "streets", height, width, {"renderer": RENDERER_VERSION, **asdict(options)}) / split


def size_folders(root: Path) -> list[Path]:
    """The folders of streets of one size and kind each, whose sub-folders are splits."""
    return sorted(one for one in root.iterdir() if _FOLDER.fullmatch(one.name) and one.is_dir()) if root.is_dir() else []


class StreetsDataset:
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
        self.folder = cache_folder(Path(root), split, height, width, options)
        self._folders = made_shards(
            self.folder,
            split,
            count,
            per_shard=FRAMES_PER_SHARD,
            render=render_shard,
            arguments=(height, width, options),
            workers=workers,
            title=f"streets {split} {height}x{width}" if progress else None,
        )
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> StreetSample:
        """Frame `index`, negative from the end, in arrays of the caller's own. Raises BuildError: its shard is damaged."""
        if not -self._count <= index < self._count:
            raise IndexError(f"frame {index} of {self._count}")
        number, offset = divmod(index % self._count, FRAMES_PER_SHARD)
        return read_frame(self._folders[number], offset)

    def __iter__(self) -> Iterator[StreetSample]:
        return (self[index] for index in range(self._count))
