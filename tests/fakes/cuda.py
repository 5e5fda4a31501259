"""A GPU that is not there: `edge_mtl.cuda.protocol` in plain Python, as unforgiving as the real one.

Streams are queues: what is queued happens when somebody synchronises, and not before, so that reading too early gives
old values. Addresses are looked up; one that belongs to nothing, or to freed memory, is a sticky error, after which every
call fails. The context must be current, memory must be pinned, and objects may not be freed twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from edge_mtl.cuda import DeviceFacts
from edge_mtl.cuda.errors import cuda_error

INVALID, ILLEGAL, MEMORY = "CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_OUT_OF_MEMORY"
CAPTURE = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"


class FakeMemory:
    """A block with an address of its own; `pinned` for host memory."""

    def __init__(self, cuda: FakeCuda, nbytes: int, *, pinned: bool, mapped: bool = False) -> None:
        self.cuda, self.nbytes, self.pinned = cuda, nbytes, pinned
        self.array = np.full(nbytes, 0xCD, np.uint8)
        self.address = cuda.place(self)
        self.device_address = self.address if mapped else 0
        self.freed = False

    def free(self) -> None:
        self.cuda.check_current()
        if self.freed:
            raise cuda_error("cuMemFree", INVALID, "freed twice")
        self.freed = True
        self.cuda.used -= self.nbytes
        if self.cuda.busy():
            self.cuda.freed_while_busy += 1


class FakeStream:
    """A queue. `barrier` entries wait for events."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.handle = cuda.number()
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.broken_recording = False
        cuda.streams[self.handle] = self

    def add(self, work: Callable[[], None]) -> None:
        self.cuda.check_current()
        (self.queue if self.recording is None else self.recording).append(work)

    def synchronize(self) -> None:
        self.cuda.check_current()
        if self.recording is not None:
            self.broken_recording = True
            raise cuda_error("cuStreamSynchronize", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        self.cuda.drain(self)

    def wait(self, event: FakeEvent) -> None:
        at = event.ticket
        self.add(lambda: self.cuda.reach(event, at))

    def free(self) -> None:
        self.cuda.check_current()
        self.cuda.streams.pop(self.handle)


class FakeEvent:
    """A point in a stream; `reached` counts how often it was recorded and passed."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.stream, self.ticket, self.reached = cuda, None, 0, 0

    def record(self, stream: FakeStream) -> None:
        self.ticket += 1
        ticket = self.ticket

        def mark() -> None:
            self.reached = ticket

        self.stream = stream
        stream.add(mark)

    def synchronize(self) -> None:
        self.cuda.check_current()
        self.cuda.reach(self, self.ticket)

    def milliseconds_since(self, earlier: FakeEvent) -> float:
        return 1.0

    def free(self) -> None:
        self.cuda.check_current()


class FakeGraph:
    """What was recorded, with the addresses of then."""

    def __init__(self, cuda: FakeCuda, work: Sequence[Callable[[], None]]) -> None:
        self.cuda, self.work = cuda, tuple(work)

    def launch(self, stream: FakeStream) -> None:
        self.cuda.launches += 1
        for work in self.work:
            stream.add(work)

    def free(self) -> None:
        self.cuda.check_current()


class FakeKernel:
    def __init__(self, cuda: FakeCuda, function: Callable[..., None]) -> None:
        self.cuda, self.function = cuda, function

    def launch(self, grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any], stream: FakeStream) -> None:
        stream.add(lambda: self.function(self.cuda, *[argument.value for argument in arguments]))


class FakeModule:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda

    def kernel(self, name: str) -> FakeKernel:
        return FakeKernel(self.cuda, self.cuda.kernels[name])

    def free(self) -> None:
        self.cuda.check_current()


class FakeCuda:
    """See the module. `fail` makes the next call or piece of work of that name fail with an error of the driver."""

    def __init__(self, *, integrated: bool = False, total: int = 1 << 30, graphs: str = "") -> None:
        self.binding, self.index, self.graphs = "fake", 0, graphs
        self.facts = DeviceFacts("Fake GPU", (8, 7), integrated, total, (12, 6))
        self.used = self.launches = self.copies_in = self.copies_out = self.freed_while_busy = 0
        self.blocks: list[FakeMemory] = []
        self.streams: dict[int, FakeStream] = {}
        self.kernels: dict[str, Callable[..., None]] = {}
        self.fail: dict[str, str] = {}
        self.lost: Exception | None = None
        self.closed = False
        self._local = threading.local()
        self._next = 0x7000_0000
        self._lock = threading.RLock()

    @contextmanager
    def active(self) -> Iterator[None]:
        self._raise_for("active")
        self._local.depth = getattr(self._local, "depth", 0) + 1
        try:
            yield
        finally:
            self._local.depth -= 1

    def stream(self) -> FakeStream:
        self.check_current()
        return FakeStream(self)

    def event(self, *, timed: bool = False) -> FakeEvent:
        self.check_current()
        return FakeEvent(self)

    def device_memory(self, nbytes: int) -> FakeMemory:
        return self._allocate(nbytes, pinned=False, mapped=False)

    def host_memory(self, nbytes: int, *, mapped: bool = False) -> FakeMemory:
        return self._allocate(nbytes, pinned=True, mapped=mapped)

    def copy_in(self, target: int, source: np.ndarray, stream: FakeStream) -> None:
        self._raise_for("copy_in")
        self._check_pinned(source)
        self.copies_in += 1

        def copy() -> None:
            self.at(target, source.nbytes)[:] = source.reshape(-1).view(np.uint8)

        stream.add(copy)

    def copy_out(self, target: np.ndarray, source: int, stream: FakeStream) -> None:
        self._raise_for("copy_out")
        self._check_pinned(target)
        self.copies_out += 1

        def copy() -> None:
            target.reshape(-1).view(np.uint8)[:] = self.at(source, target.nbytes)

        stream.add(copy)

    def copy_device(self, target: int, source: int, nbytes: int, stream: FakeStream) -> None:
        def copy() -> None:
            self.at(target, nbytes)[:] = self.at(source, nbytes)

        stream.add(copy)

    def wait_for(self, stream: int | None) -> None:
        self.check_current()
        if stream in self.streams:
            self.streams[stream].synchronize()

    def begin_capture(self, stream: FakeStream) -> None:
        self.check_current()
        stream.recording, stream.broken_recording = [], False

    def end_capture(self, stream: FakeStream) -> FakeGraph:
        self.check_current()
        work, stream.recording = stream.recording, None
        if stream.broken_recording or work is None:
            raise cuda_error("cuStreamEndCapture", CAPTURE)
        self._raise_for("end_capture")
        return FakeGraph(self, work)

    def module(self, code: bytes) -> FakeModule:
        self.check_current()
        assert b".visible .entry" in code
        return FakeModule(self)

    def memory(self) -> tuple[int, int]:
        return self.facts.memory_bytes - self.used, self.facts.memory_bytes

    def close(self) -> None:
        self.closed = True

    # What the fakes ask for, not part of the protocol.

    def number(self) -> int:
        with self._lock:
            self._next += 0x1000
            return self._next

    def place(self, memory: FakeMemory) -> int:
        with self._lock:
            self.blocks.append(memory)
            address = self._next + 0x1000
            self._next = (address + memory.nbytes + 0xFFF) // 0x1000 * 0x1000
            return address

    def at(self, address: int, nbytes: int) -> np.ndarray:
        """The bytes there. Outside living memory that the GPU sees: a sticky error, as on the real one."""
        for block in self.blocks:
            if block.address <= address and address + nbytes <= block.address + block.nbytes and not block.freed:
                if block.pinned and not block.device_address:
                    break
                return block.array[address - block.address :][:nbytes]
        self.lose("a kernel", ILLEGAL)
        raise AssertionError

    def lose(self, what: str, code: str) -> None:
        """Fail, and go on failing where the error is a sticky one."""
        error = cuda_error(what, code)
        if getattr(error, "sticky", False):
            self.lost = error
        raise error

    def drain(self, stream: FakeStream) -> None:
        with self._lock:
            while stream.queue:
                self._raise_lost()
                work = stream.queue.pop(0)
                self._raise_for("work")
                work()
            self._raise_lost()

    def reach(self, event: FakeEvent, ticket: int) -> None:
        """Work on the event's stream, and no further than to it."""
        with self._lock:
            while event.reached < ticket and event.stream is not None:
                self._raise_lost()
                self._raise_for("work")
                event.stream.queue.pop(0)()
            self._raise_lost()

    def busy(self) -> bool:
        return any(stream.queue for stream in self.streams.values())

    def check_current(self) -> None:
        self._raise_lost()
        if self.closed or getattr(self._local, "depth", 0) < 1:
            raise cuda_error("a call", "CUDA_ERROR_INVALID_CONTEXT", "no context is current in this thread")

    @property
    def living(self) -> list[FakeMemory]:
        return [block for block in self.blocks if not block.freed]

    def _allocate(self, nbytes: int, *, pinned: bool, mapped: bool) -> FakeMemory:
        self.check_current()
        self._raise_for("allocate")
        if self.used + nbytes > self.facts.memory_bytes:
            raise cuda_error(f"taking {nbytes} bytes", MEMORY)
        self.used += nbytes
        return FakeMemory(self, nbytes, pinned=pinned, mapped=mapped)

    def _check_pinned(self, array: np.ndarray) -> None:
        self.check_current()
        start = array.ctypes.data
        for block in self.blocks:
            base = block.array.ctypes.data
            if block.pinned and not block.freed and base <= start and start + array.nbytes <= base + block.nbytes:
                return
        raise cuda_error("an asynchronous copy", INVALID, "the host's memory is not pinned")

    def _raise_for(self, what: str) -> None:
        code = self.fail.pop(what, None)
        if code is not None:
            self.lose(what, code)

    def _raise_lost(self) -> None:
        if self.lost is not None:
            raise self.lost
