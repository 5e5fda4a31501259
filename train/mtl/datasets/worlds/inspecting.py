"""A look at every shard of a rendered world, size by size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mtl.datasets.report import Check, Progress, Report

from .cache import SPLITS, Split, size_folders

__all__ = ["Look", "inspect_shards"]


class Look(Protocol):
    """What is seen of the frames of one size."""

    def shard(self, shard: Path, split: Split) -> None:
        """Look at every frame of a shard."""

    def checks(self) -> list[Check]:
        """Every line of the report."""


def inspect_shards(root: Path, world: str, look_at: Callable[[Path], Look], progress: Progress | None) -> Report:
    """Show every shard of a root to a look of its size; `look_at` makes one of the folder of a size."""
    parts = [(folder, split) for folder in size_folders(root, world) for split in SPLITS]
    shards = [(folder, split, shard) for folder, split in parts for shard in sorted((folder / split).glob("shard-*"))]
    looks = {folder: look_at(folder) for folder in size_folders(root, world)}
    for done, (folder, split, shard) in enumerate(shards, 1):
        looks[folder].shard(shard, split)
        if progress is not None:
            progress("shards", done, len(shards))
    return Report(str(root), tuple(check for look in looks.values() for check in look.checks()))
