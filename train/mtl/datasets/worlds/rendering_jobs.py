"""Makes shards in worker processes, with a progress bar; what is finished stays when a worker dies or the user stops."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edge_mtl.console import Console

__all__ = ["Job", "run_jobs"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Job:
    """A shard to be made or completed: a function, what it is called with, and how many frames that are."""

    call: Callable[..., None]
    arguments: tuple[Any, ...]
    frames: int


def run_jobs(jobs: list[Job], workers: int, title: str | None) -> None:
    """Run jobs in worker processes, or right here when one worker is enough.

    Args:
        title: of the progress bar; None for none.
    Raises:
        RuntimeError: a worker process died.
    """
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


def _handed_out(pool: ProcessPoolExecutor, jobs: list[Job]) -> dict[Future[None], int]:
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
