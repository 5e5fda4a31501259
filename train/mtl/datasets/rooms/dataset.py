"""Rooms rendered once and kept on disk. NumPy only; knows nothing about torch.

Layout: root / rooms-<H>x<W>-<digest of options and renderer version> / split / shard-00000 / *.npy
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edge_mtl.console import Console
from edge_mtl.unfinished import sweep_temporaries

from .render import DEFAULT_OPTIONS, RENDERER_VERSION, RenderOptions, RoomSample
from .shards import add_objects, has_objects, read_frame, render_shard

Split = Literal["train", "val", "test"]
SPLIT_FIRST_SEED: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}

FRAMES_PER_SHARD = 32

_FOLDER = re.compile(r"rooms-\d+x\d+-[0-9a-f]{10}")
_MOST_FRAMES = 1_000_000_000
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cache_folder(root: Path, split: Split, height: int, width: int, options: RenderOptions) -> Path:
    """Where the shards of one split live; another renderer or other options get another folder."""
    described = json.dumps({"renderer": RENDERER_VERSION, **asdict(options)}, sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:10]
    return root / f"rooms-{height}x{width}-{digest}" / split


def holds_rooms(root: Path) -> bool:
    """Whether rooms of any size were rendered in a folder."""
    return bool(size_folders(root))


def size_folders(root: Path) -> list[Path]:
    """The folders of rooms of one size and kind each, whose sub-folders are splits."""
    return sorted(one for one in root.iterdir() if _FOLDER.fullmatch(one.name) and one.is_dir()) if root.is_dir() else []


class RoomsDataset:
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
        if split not in SPLIT_FIRST_SEED:
            raise ValueError(f"split is one of {', '.join(SPLIT_FIRST_SEED)}, not {split!r}")
        if not 0 < count <= _MOST_FRAMES:
            raise ValueError(f"count is from 1 to {_MOST_FRAMES}, not {count}")
        self._count = count
        self.folder = cache_folder(Path(root), split, height, width, options)
        folders = [self.folder / f"shard-{index:05d}" for index in range(-(-count // FRAMES_PER_SHARD))]
        missing = [(index, folder) for index, folder in enumerate(folders) if not folder.is_dir()]
        if missing:
            sweep_temporaries(self.folder)
            shards = [(folder, _seeds(split, index)) for index, folder in missing]
            jobs = [_Job(render_shard, (folder, seeds, height, width, options), len(seeds)) for folder, seeds in shards]
            _run_all(jobs, workers, f"rooms {split} {height}x{width}" if progress else None)
        lacking = [folder for folder in folders if not has_objects(folder)] if objects else []
        if lacking:
            jobs = [_Job(add_objects, (folder, height, width, options), FRAMES_PER_SHARD) for folder in lacking]
            _run_all(jobs, workers, f"objects {split} {height}x{width}" if progress else None)
        self._folders, self._objects = folders, objects

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> RoomSample:
        """Frame `index`, negative from the end, in arrays of the caller's own. Raises BuildError: its shard is damaged."""
        if not -self._count <= index < self._count:
            raise IndexError(f"frame {index} of {self._count}")
        number, offset = divmod(index % self._count, FRAMES_PER_SHARD)
        return read_frame(self._folders[number], offset, objects=self._objects)

    def __iter__(self) -> Iterator[RoomSample]:
        return (self[index] for index in range(self._count))


@dataclass(frozen=True, slots=True)
class _Job:
    """A shard to be made or completed: a function, what it is called with, and how many frames that are."""

    call: Callable[..., None]
    arguments: tuple[Any, ...]
    frames: int


def _seeds(split: Split, shard: int) -> range:
    first = SPLIT_FIRST_SEED[split] + shard * FRAMES_PER_SHARD
    return range(first, first + FRAMES_PER_SHARD)


def _run_all(jobs: list[_Job], workers: int, title: str | None) -> None:
    """Run jobs in worker processes, or right here when one worker is enough."""
    counted = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames")
    bar = Progress(*counted, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), disable=title is None)
    with bar:
        task = bar.add_task(title or "", total=sum(job.frames for job in jobs))
        if workers <= 1:
            for job in jobs:
                job.call(*job.arguments)
                bar.advance(task, job.frames)
            return
        context = multiprocessing.get_context("spawn")
        until, end = context.Pipe(duplex=False)
        count = min(workers, len(jobs))
        with _one_thread_each(), until, end, ProcessPoolExecutor(count, context, _quiet_worker, (until,)) as pool:
            try:
                pending = _handed_out(pool, jobs)
                for done in as_completed(pending):
                    done.result()
                    bar.advance(task, pending[done])
            except BrokenProcessPool as error:
                end.close()  # the pool waits for ever for a worker that it started while it was breaking
                raise RuntimeError("a rendering worker died; finished shards are kept, run again to go on") from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _handed_out(pool: ProcessPoolExecutor, jobs: list[_Job]) -> dict[Future[None], int]:
    """Every job in the pool, with its number of frames. Raises BrokenProcessPool where a worker dies or cannot be started.

    The pool starts workers while jobs are handed out. One that dies meanwhile makes it close the pipes that it gives to the
    next: ValueError or OSError, depending on the moment.
    """
    try:
        return {pool.submit(job.call, *job.arguments): job.frames for job in jobs}
    except (OSError, ValueError) as error:
        raise BrokenProcessPool(f"a worker could not be started ({error})") from error


def _quiet_worker(until: Connection) -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_leave, args=(until,), daemon=True).start()


def _leave(until: Connection) -> None:
    """Where the parent was killed, or closed its end, a worker would wait for jobs for ever; its shard is swept later."""
    parent = multiprocessing.parent_process()
    wait([until] if parent is None else [until, parent.sentinel])
    os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers are many already: children inherit one BLAS thread each."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
