"""A batch that a worker loses ends training in one line: real workers, and a full /dev/shm as torch tells it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from mtl.datasets import lost_batches
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Frame
from mtl.datasets.loader import BatchPlan, StepBatches, batches
from mtl.datasets.lost_batches import LoaderError, prefetch, typed_loss

from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.shared_memory import SharedMemory
from edge_mtl.tasks import NYU_TASKS
from tests.nyu_frames import nyu_frame

pytestmark = pytest.mark.training

CAMERA = (30.0, 30.0, 31.5, 15.5)
FRAME_BYTES = 32 * 64 * (3 + 1 + 4 + 12)
PLAN = BatchPlan(seed=1, stage=0, size=(32, 64), batch=4, stride=0, augment=AugmentSettings())


def no_room(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")


@dataclass(frozen=True)
class Failing:
    """Frames whose opening breaks the process that opens them, where it is a worker."""

    fault: str
    tasks = NYU_TASKS

    def open(self) -> Failing:
        if multiprocessing.parent_process() is not None:
            if self.fault == "no room":
                torch.UntypedStorage._share_fd_cpu_ = torch.UntypedStorage._share_filename_cpu_ = no_room  # type: ignore[assignment]
            elif self.fault == "no descriptors":
                ForkingPickler.dumps = no_room  # type: ignore[method-assign, assignment]
            elif self.fault == "a file":
                raise BuildError("room 3 is gone")
            else:
                os.kill(os.getpid(), signal.Signals[self.fault])
        return self

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Frame:
        normals = np.full((32, 64, 3), (0, 0, -1), np.float32)
        image, label, depth = np.zeros((32, 64, 3), np.uint8), np.zeros((32, 64), np.uint8), np.ones((32, 64), np.float32)
        return nyu_frame(image, label, depth, normals, CAMERA)


@pytest.fixture
def not_for_ever() -> Iterator[None]:
    """A test that waits for a batch which never comes fails."""

    def too_long(*_: object) -> NoReturn:
        raise TimeoutError("the batch is waited for")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("no room", LoaderError, ("no room in /dev/shm", "--shm-size", "--ipc=host", "--loop.loader_workers 0", "--resume")),
        ("no descriptors", LoaderError, ("was ended, by lack of memory or of room in /dev/shm", "--resume")),
        (
            "SIGBUS",
            LoaderError,
            ("was ended, by lack of memory or of room in /dev/shm", "--shm-size", "--ipc=host", "--loop.loader_workers 0"),
        ),
        ("SIGKILL", LoaderError, ("was ended, by lack of memory", "--loop.loader_workers")),
        ("a file", BuildError, ("room 3 is gone",)),
    ],
)
def test_a_batch_that_a_worker_loses_is_an_error_of_one_line(
    not_for_ever: None, fault: str, error: type[EdgeMtlError], words: tuple[str, ...]
) -> None:
    coming = batches(Failing(fault), PLAN, first=0, last=8, workers=1)
    try:
        with pytest.raises(error) as caught:
            next(coming)
    finally:
        coming.close()
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def room(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    found = None if free is None else SharedMemory(64 << 20, free)
    monkeypatch.setattr(lost_batches, "shared_memory", lambda: found)


def test_room_in_shared_memory_is_looked_at_before_a_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 4 * 4 * FRAME_BYTES - 1)  # a step holds two batches, each of two workers has one
    with pytest.raises(LoaderError) as caught:
        batches(Failing("SIGKILL"), PLAN, first=0, last=8, workers=2)
    said = str(caught.value)
    for words in ("/dev/shm has 1 MB free of 67 MB", "2 workers", "--shm-size", "--ipc=host", "--loop.loader_workers 0"):
        assert words in said
    assert multiprocessing.active_children() == []
    assert len(list(batches(Failing("SIGKILL"), PLAN, first=0, last=2, workers=0))) == 2


def test_the_estimate_is_what_a_batch_takes() -> None:
    batch = StepBatches(Failing(""), PLAN)[0]
    size = batch.image.nbytes + sum(target.nbytes for target in batch.targets.values())
    assert StepBatches(Failing(""), PLAN).batch_bytes(0) == size == 4 * FRAME_BYTES


@pytest.mark.parametrize(("batches_free", "ahead"), [(1000, 4), (10, 4), (9, 3), (4, 1)])
def test_fewer_batches_are_prepared_ahead_where_there_is_little_room(
    monkeypatch: pytest.MonkeyPatch, batches_free: int, ahead: int
) -> None:
    room(monkeypatch, batches_free * 100)
    assert prefetch(100, workers=2, processes=1, most=4) == ahead
    room(monkeypatch, batches_free * 300)
    assert prefetch(100, workers=2, processes=3, most=4) == ahead


def test_no_shared_memory_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, None)
    with pytest.raises(LoaderError, match="/dev/shm cannot be written to"):
        prefetch(100, workers=1, processes=1, most=4)


def test_errors_of_others_are_left_alone() -> None:
    assert typed_loss(RuntimeError("shared memory of the GPU")) is None
    assert typed_loss(RuntimeError("")) is None
    assert typed_loss(ValueError("Caught ValueError in DataLoader worker process 0.\nTraceback:\nValueError: a bug")) is None
