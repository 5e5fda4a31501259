"""Training batches by step number, prepared in worker processes.

What a batch holds depends on (seed, stage, step) alone, so a resumed run sees what an uninterrupted one would have seen,
with any number of workers. A batch of a mixture is of one source, whose frames go by in an order of their own. Knows frames
and augmentation; knows nothing about networks.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from zlib import crc32

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from edge_mtl.errors import EdgeMtlError
from edge_mtl.tasks import LabelsSpec
from mtl.datasets.augment import SeenFrame, apply_view, draw_view, jitter, view_truth
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.camera_effects import camera_effects, has_effects
from mtl.datasets.frame import Batch, FrameSource
from mtl.datasets.lost_batches import end_on_loss, in_shared_memory, prefetch, typed_loss
from mtl.datasets.mixing import class_mask, paste, rectangle_mask
from mtl.datasets.mixture import MixtureFrames, Turns
from mtl.nested import tensors
from mtl.settings import DataSettings
from mtl.tasks import head_of

__all__ = ["BatchPlan", "Batches", "StepBatches", "batches"]

_AHEAD = 4
"""Batches that each worker prepares before they are asked for."""


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
        data: by source, "" for the only one: the data sets that say how exact their truths are.
    """

    seed: int
    stage: int
    size: tuple[int, int]
    batch: int
    stride: int
    augment: AugmentSettings
    canonical: bool = True
    part: tuple[int, int] = (0, 1)
    data: Mapping[str, DataSettings] = field(default_factory=dict)


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
        plan, phase = self._plan, self._phase(step)
        name, turn = self._turns.at(step) if self._turns is not None else ("", step)
        stream = self._streams[name]
        index, count = plan.part
        size = plan.batch // count
        own = range(index * size, (index + 1) * size)
        parts = stream.frames(turn * plan.batch, own, phase)
        image = torch.from_numpy(np.stack([part.image for part in parts]))
        targets = {}
        for task, spec in stream.tasks.items():
            truths = [part.truths.get(task) for part in parts]
            if any(truth is not None for truth in truths):
                targets[task] = head_of(spec).collate(spec, truths)
        return Batch(image, targets, phase, name)

    def batch_bytes(self, step: int) -> int:
        """Bytes that a batch takes about: those of a frame, of that source whose frames are largest, times their number."""
        if not self._streams:
            self._open()
        sizes = []
        for stream in self._streams.values():
            one = stream.frames(0, range(1), self._phase(step))[0]
            known = {task: truth for task, truth in one.truths.items() if truth is not None}
            targets = [head_of(stream.tasks[task]).collate(stream.tasks[task], [truth]) for task, truth in known.items()]
            sizes.append(one.image.nbytes + sum(tensor.nbytes for tensor in tensors(targets)))
        return max(sizes) * (self._plan.batch // self._plan.part[1])

    def _phase(self, step: int) -> tuple[int, int] | None:
        """Which pixel of every cell the targets of a step are; None for all."""
        plan = self._plan
        if plan.stride <= 1:
            return None
        down, right = np.random.default_rng([plan.seed, 1, plan.stage, step]).integers(plan.stride, size=2).tolist()
        return down, right

    def _open(self) -> None:
        frames = self._frames.open()
        if isinstance(frames, MixtureFrames):
            self._turns = Turns(frames.shares)
            self._streams = {
                name: _Stream(one, self._plan, key=crc32(name.encode()), data=self._plan.data.get(name))
                for name, one in frames.sources.items()
            }
        else:
            self._streams = {"": _Stream(frames, self._plan, data=self._plan.data.get(""))}


class _Stream:
    """The endless shuffled stream of a source's frames.

    Args:
        key: what its order and its random views depend on besides the plan's seed; None for nothing.
        data: what the data set says of its truths; None where it says nothing.
    """

    def __init__(
        self, source: FrameSource, plan: BatchPlan, *, key: int | None = None, data: DataSettings | None = None
    ) -> None:
        self._source, self._plan, self._data = source, plan, data
        self._key = () if key is None else (key,)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.tasks = source.tasks

    def frames(self, first: int, offsets: Sequence[int], phase: tuple[int, int] | None) -> list[SeenFrame]:
        """Random views of those frames of the batch that begins at position `first` whose places in it are `offsets`.

        Which frame is pasted into which one does not depend on `offsets`: parts of a batch are those of the whole.
        """
        plan = self._plan
        seen = _Seen(self, phase)
        if plan.augment.mix <= 0:
            return [seen[first + offset].frame for offset in offsets]
        return [self._mixed(seen, first, offset, phase) for offset in offsets]

    def _mixed(self, seen: _Seen, first: int, offset: int, phase: tuple[int, int] | None) -> SeenFrame:
        plan = self._plan
        one = seen[first + offset].frame
        rng = self._generator(6, first + offset)
        if not rng.random() < plan.augment.mix:
            return one
        other = seen[first + (offset + 1 + int(rng.integers(plan.batch - 1))) % plan.batch]
        if plan.augment.mix_shape == "classes" and other.labels is not None:
            mask = class_mask(other.labels, rng)
        else:
            mask = rectangle_mask(plan.size, rng)
        stride, start = (plan.stride, phase) if phase is not None else (1, (0, 0))
        return paste(one, other.frame, mask, self.tasks, stride=stride, phase=start)

    def view(self, position: int, phase: tuple[int, int] | None) -> _View:
        """A random view of the frame at a position of the stream, nothing pasted into it."""
        plan = self._plan
        rng = self._generator(2, position)
        frame = self._source[self._index(position, len(self._source))]
        if self._data is not None:
            truths = {task: head_of(self.tasks[task]).within(self.tasks[task], truth, self._data)
                      for task, truth in frame.truths.items()}  # fmt: skip
            frame = replace(frame, truths=truths)
        height, width = plan.size
        view = draw_view(frame.size, rng, plan.augment, aspect=width / height)
        stride, start = (plan.stride, phase) if phase is not None else (1, (0, 0))
        seen = apply_view(frame, view, self.tasks, size=plan.size, stride=stride, phase=start, canonical=plan.canonical)
        image = jitter(seen.image, rng, plan.augment)
        if has_effects(plan.augment):
            image = camera_effects(image, self._generator(5, position), plan.augment)
        seen = replace(seen, image=image)
        if plan.augment.mix <= 0 or plan.augment.mix_shape != "classes":
            return _View(seen)
        spec = next((one for task, one in self.tasks.items() if isinstance(one, LabelsSpec) and task in frame.truths), None)
        return _View(seen, None if spec is None else view_truth(frame, view, spec, size=plan.size))

    def _generator(self, use: int, position: int) -> np.random.Generator:
        return np.random.default_rng([self._plan.seed, use, self._plan.stage, position, *self._key])

    def _index(self, position: int, count: int) -> int:
        """Number of the frame at a position: every pass is a permutation of its own."""
        epoch, place = divmod(position, count)
        if self._order[0] != epoch:
            order = np.random.default_rng([self._plan.seed, 3, self._plan.stage, epoch, *self._key]).permutation(count)
            self._order = (epoch, order)
        return int(self._order[1][place])


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A view of a frame, and its labels (H, W) at every pixel where it is mixed by class and has any."""

    frame: SeenFrame
    labels: np.ndarray | None = None


class _Seen(dict[int, _View]):
    """Views of a batch by position, each made once."""

    def __init__(self, stream: _Stream, phase: tuple[int, int] | None) -> None:
        super().__init__()
        self._stream, self._phase = stream, phase

    def __missing__(self, position: int) -> _View:
        self[position] = found = self._stream.view(position, self._phase)
        return found


class Batches(Iterator[Batch]):
    """Batches in order.

    Whoever has them closes them: the processes that prepare them live as long as anything refers to them, the traceback of an
    error too, and they leave signals to their parent, which then would wait for them when it ends.
    """

    def __init__(self, coming: Iterator[Batch]) -> None:
        self._coming = coming

    def __next__(self) -> Batch:
        try:
            return next(self._coming)
        except Exception as exc:
            if (error := typed_loss(exc)) is not None:
                raise error from (None if isinstance(exc, EdgeMtlError) else exc)
            raise

    def close(self) -> None:
        """End the processes; any number of times."""
        shutdown = getattr(self._coming, "_shutdown_workers", None)  # of torch's iterator over processes; it has no other way
        if shutdown is not None:
            shutdown()


def batches(frames: Opens, plan: BatchPlan, *, first: int, last: int, workers: int) -> Batches:
    """Batches of steps first..last-1, in order. `workers` processes prepare them; 0 prepares them here.

    Raises:
        LoaderError: shared memory has no room for those of so many workers; from `next`, too, where it is gone by then.
    """
    options: dict[str, Any] = {}
    if workers > 0:
        size = StepBatches(frames, plan).batch_bytes(first)
        ahead = prefetch(size, workers=workers, processes=plan.part[1], most=_AHEAD)
        options = {"multiprocessing_context": "spawn", "prefetch_factor": ahead, "worker_init_fn": _one_thread}
    loader = DataLoader(
        StepBatches(frames, plan),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        collate_fn=in_shared_memory if workers > 0 else _same,
        generator=torch.Generator(),  # else it draws from the global one, and a resumed run would differ
        **options,
    )
    return Batches(iter(loader))


def _same(batch: Batch) -> Batch:
    return batch


def _one_thread(worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent ends its workers itself
        signal.signal(number, signal.SIG_IGN)
    end_on_loss()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
