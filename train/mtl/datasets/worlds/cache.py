"""Frames rendered once and kept on disk, by split: what a shard holds depends on its seeds alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from edge_mtl.unfinished import sweep_temporaries

from .rendering_jobs import Job, run_jobs

__all__ = ["SPLITS", "SPLIT_FIRST_SEED", "Split", "made_shards", "options_folder"]

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_FIRST_SEED: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}

MOST_FRAMES = 1_000_000_000


def options_folder(root: Path, world: str, height: int, width: int, described: dict[str, Any]) -> Path:
    """Where the frames of a size and of some options live, whose digest is its name; sub-folders are splits."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:10]
    return root / f"{world}-{height}x{width}-{digest}"


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
