"""Training batches by step number, prepared in worker processes.

What a batch holds depends on (seed, stage, step) alone, so a resumed run sees what an uninterrupted one would have seen,
with any number of workers. A batch of a mixture is of one source, whose frames go by in an order of their own. Knows frames
and augmentation; knows nothing about networks.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol
from zlib import crc32

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mtl.datasets.augment import SeenFrame, apply_view, draw_view, jitter
from mtl.datasets.frame import Batch, FrameSource
from mtl.datasets.mixture import MixtureFrames, Turns
from mtl.settings import AugmentSettings
from mtl.tasks import head_of

__all__ = ["BatchPlan", "Batches", "StepBatches", "batches"]


class Opens(Protocol):
    """A picklable description of frames."""

    def open(self) -> FrameSource: ...


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Everything that decides the content of a batch, but its step.

    Attributes:
        stage: number of the stage; part of the seed.
        size: (H, W) of the network's input.
        stride: of the network's output; 0 gives targets at full size, else at one pixel per stride x stride cell.
        canonical: whether truths are those of the canonical camera, else of the frames' own (`apply_view`).
        part: (i, n): of every batch only the i-th of n equal parts is made, for a run of several processes.
    """

    seed: int
    stage: int
    size: tuple[int, int]
    batch: int
    stride: int
    augment: AugmentSettings
    canonical: bool = True
    part: tuple[int, int] = (0, 1)


class StepBatches(Dataset[Batch]):
    """Batch number `step` of a stage, as a map-style dataset."""

    def __init__(self, frames: Opens, plan: BatchPlan) -> None:
        self._frames = frames
        self._plan = plan
        self._streams: dict[str, _Stream] = {}
        self._turns: Turns | None = None

    def __getitem__(self, step: int) -> Batch:
        if not self._streams:
            self._open()
        plan = self._plan
        name, turn = self._turns.at(step) if self._turns is not None else ("", step)
        stream = self._streams[name]
        phase = None
        if plan.stride > 1:
            down, right = np.random.default_rng([plan.seed, 1, plan.stage, step]).integers(plan.stride, size=2).tolist()
            phase = (down, right)
        index, count = plan.part
        size = plan.batch // count
        own = range(index * size, (index + 1) * size)
        parts = [stream.frame(turn * plan.batch + offset, phase) for offset in own]
        image = torch.from_numpy(np.stack([part.image for part in parts]))
        targets = {}
        for task, spec in stream.tasks.items():
            truths = [part.truths.get(task) for part in parts]
            if any(truth is not None for truth in truths):
                targets[task] = head_of(spec).collate(spec, truths)
        return Batch(image, targets, phase, name)

    def _open(self) -> None:
        frames = self._frames.open()
        if isinstance(frames, MixtureFrames):
            self._turns = Turns(frames.shares)
            self._streams = {name: _Stream(one, self._plan, key=crc32(name.encode())) for name, one in frames.sources.items()}
        else:
            self._streams = {"": _Stream(frames, self._plan)}


class _Stream:
    """The endless shuffled stream of a source's frames.

    Args:
        key: what its order and its random views depend on besides the plan's seed; None for nothing.
    """

    def __init__(self, source: FrameSource, plan: BatchPlan, *, key: int | None = None) -> None:
        self._source, self._plan = source, plan
        self._key = () if key is None else (key,)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.tasks = source.tasks

    def frame(self, position: int, phase: tuple[int, int] | None) -> SeenFrame:
        """A random view of the frame at a position of the stream."""
        plan = self._plan
        rng = np.random.default_rng([plan.seed, 2, plan.stage, position, *self._key])
        frame = self._source[self._index(position, len(self._source))]
        height, width = plan.size
        view = draw_view(frame.size, rng, plan.augment, aspect=width / height)
        stride, start = (plan.stride, phase) if phase is not None else (1, (0, 0))
        seen = apply_view(frame, view, self.tasks, size=plan.size, stride=stride, phase=start, canonical=plan.canonical)
        return replace(seen, image=jitter(seen.image, rng, plan.augment))

    def _index(self, position: int, count: int) -> int:
        """Number of the frame at a position: every pass is a permutation of its own."""
        epoch, place = divmod(position, count)
        if self._order[0] != epoch:
            order = np.random.default_rng([self._plan.seed, 3, self._plan.stage, epoch, *self._key]).permutation(count)
            self._order = (epoch, order)
        return int(self._order[1][place])


class Batches(Iterator[Batch]):
    """Batches in order.

    Whoever has them closes them: the processes that prepare them live as long as anything refers to them, the traceback of an
    error too, and they leave signals to their parent, which then would wait for them when it ends.
    """

    def __init__(self, coming: Iterator[Batch]) -> None:
        self._coming = coming

    def __next__(self) -> Batch:
        return next(self._coming)

    def close(self) -> None:
        """End the processes; any number of times."""
        shutdown = getattr(self._coming, "_shutdown_workers", None)  # of torch's iterator over processes; it has no other way
        if shutdown is not None:
            shutdown()


def batches(frames: Opens, plan: BatchPlan, *, first: int, last: int, workers: int) -> Batches:
    """Batches of steps first..last-1, in order. `workers` processes prepare them; 0 prepares them here."""
    options: dict[str, Any] = {}
    if workers > 0:
        options = {"multiprocessing_context": "spawn", "prefetch_factor": 4, "worker_init_fn": _one_thread}
    loader = DataLoader(
        StepBatches(frames, plan),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        collate_fn=_same,
        generator=torch.Generator(),  # else it draws from the global one, and a resumed run would differ
        **options,
    )
    return Batches(iter(loader))


def _same(batch: Batch) -> Batch:
    return batch


def _one_thread(worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent ends its workers itself
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
