"""What becomes of batches that worker processes lose: room in /dev/shm is looked at first, and every loss is a typed error.

Workers hand batches over in shared memory. Left to itself, PyTorch loses a batch for which there is no room with a message of
the worker's, and the process that trains waits for it for ever.
"""

from __future__ import annotations

import multiprocessing.queues
import os
import sys

from edge_mtl.errors import EdgeMtlError
from edge_mtl.shared_memory import FOLDER, MORE, shared_memory
from mtl.datasets.frame import Batch
from mtl.nested import tensors

__all__ = ["LoaderError", "end_on_loss", "in_shared_memory", "prefetch", "typed_loss"]

_HERE = "--loop.loader_workers 0 prepares batches without it"
_NO_ROOM = ("No space left on device", "Bus error", "out of shared memory", "shared memory(shm)")
_WORKER = "DataLoader worker"


class LoaderError(EdgeMtlError):
    """Batches cannot be handed over by the processes that prepare them."""

    exit_code = 13


def prefetch(batch_bytes: int, *, workers: int, processes: int, most: int) -> int:
    """How many batches each worker may prepare ahead: `most`, or fewer where /dev/shm has room for fewer.

    Args:
        batch_bytes: of one batch of one process.
        workers: of each process that trains.
        processes: that train here and share the room.
    Raises:
        LoaderError: there is no room for one batch of each worker and the two that a step holds; says what to do.
    """
    memory = shared_memory()
    free = 0 if memory is None else memory.free // processes
    number = min(most, (free // max(batch_bytes, 1) - 2) // workers)
    if number < 1:
        found = f"{FOLDER} cannot be written to" if memory is None else str(memory)
        needed = (workers + 2) * batch_bytes * processes
        raise LoaderError(
            f"{found}, and the batches that {workers * processes} workers prepare need {needed / 1e6:.0f} MB or more of it. "
            f"In Docker {MORE}; or {_HERE}"
        )
    return number


def in_shared_memory(batch: Batch) -> Batch:
    """The same batch, its tensors moved to shared memory: where there is no room this raises, while queueing it would not."""
    for tensor in tensors([batch.image, *batch.targets.values()]):
        tensor.share_memory_()
    return batch


def end_on_loss() -> None:
    """To be called in a worker: end it where a batch cannot be queued, which PyTorch sees; by itself it would only print."""

    def end(error: BaseException, item: object) -> None:
        print(f"{_WORKER} {os.getpid()} loses a batch: {error}", file=sys.stderr, flush=True)
        os._exit(1)

    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined] # CPython's hook


def typed_loss(error: BaseException) -> EdgeMtlError | None:
    """The one-line error for what PyTorch raises where a worker failed, ended or had no room; None for anything else."""
    lines = str(error).strip().splitlines()
    if not lines or _WORKER not in lines[0]:
        return None
    if isinstance(error, EdgeMtlError):  # raised by a worker; PyTorch puts the traceback into the message
        return type(error)(lines[-1].partition(": ")[2] or lines[-1]) if len(lines) > 1 else None
    memory = shared_memory()
    room = FOLDER if memory is None else f"{FOLDER} ({memory} now)"
    if any(words in str(error) for words in _NO_ROOM):
        reason = f"a batch found no room in {room}."
    elif isinstance(error, MemoryError) or not lines[0].startswith("Caught"):
        reason = f"a process that prepares batches was ended, by lack of memory or of room in {room}?"
    else:
        return None
    return LoaderError(f"{reason} In Docker {MORE}; or {_HERE}. Then go on with --resume")
