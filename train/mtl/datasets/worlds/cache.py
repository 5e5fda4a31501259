"""Frames rendered once and kept on disk, by split: what a shard holds depends on its seeds alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from edge_mtl.unfinished import sweep_temporaries

from .rendering_jobs import Job, run_jobs

__all__ = ["SPLITS", "SPLIT_FIRST_SEED", "CachedSamples", "Split", "made_shards", "options_folder", "size_folders"]

S = TypeVar("S")

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_FIRST_SEED: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}

MOST_FRAMES = 1_000_000_000


def options_folder(root: Path, world: str, height: int, width: int, described: dict[str, Any]) -> Path:
    """Where the frames of a size and of some options live, whose digest is its name; sub-folders are splits."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:10]
    return root / f"{world}-{height}x{width}-{digest}"


def size_folders(root: Path, world: str) -> list[Path]:
    """The folders of `options_folder` that a root has of a world."""
    named = re.compile(rf"{world}-\d+x\d+-[0-9a-f]{{10}}")
    return sorted(one for one in root.iterdir() if named.fullmatch(one.name) and one.is_dir()) if root.is_dir() else []


class CachedSamples(Generic[S]):
    """The first `count` samples of some shards, as a sequence.

    Attributes:
        folder: that the shards are in.
    """

    def __init__(
        self, folder: Path, shards: Sequence[Path], count: int, *, per_shard: int, read: Callable[[Path, int], S]
    ) -> None:
        self.folder, self._shards, self._count, self._per_shard, self._read = folder, shards, count, per_shard, read

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> S:
        """Sample `index`, negative from the end, in arrays of the caller's own. Raises BuildError: its shard is damaged."""
        if not -self._count <= index < self._count:
            raise IndexError(f"frame {index} of {self._count}")
        number, offset = divmod(index % self._count, self._per_shard)
        return self._read(self._shards[number], offset)

    def __iter__(self) -> Iterator[S]:
        return (self[index] for index in range(self._count))


def made_shards(
    folder: Path,
    split: Split,
    count: int,
    *,
    per_shard: int,
    render: Callable[..., None],
    arguments: tuple[Any, ...],
    workers: int,
    title: str | None,
) -> list[Path]:
    """The shards of the first `count` frames of a split; what is missing is rendered first.

    Only whole shards are made. A run that is killed leaves nothing half-made and the next continues where it stopped; a
    larger `count` renders only the shards that are new.

    Args:
        render: called with a shard's folder, its seeds and `arguments`.
        title: of the progress bar; None for none.
    Raises:
        ValueError: an unknown split, or a count out of range.
        RuntimeError: a worker process died; finished shards are kept.
    """
    if split not in SPLIT_FIRST_SEED:
        raise ValueError(f"split is one of {', '.join(SPLIT_FIRST_SEED)}, not {split!r}")
    if not 0 < count <= MOST_FRAMES:
        raise ValueError(f"count is from 1 to {MOST_FRAMES}, not {count}")
    folders = [folder / f"shard-{index:05d}" for index in range(-(-count // per_shard))]
    missing = [(index, one) for index, one in enumerate(folders) if not one.is_dir()]
    if missing:
        sweep_temporaries(folder)
        first = SPLIT_FIRST_SEED[split]
        shards = [(one, range(first + index * per_shard, first + (index + 1) * per_shard)) for index, one in missing]
        run_jobs([Job(render, (one, seeds, *arguments), len(seeds)) for one, seeds in shards], workers, title)
    return folders
