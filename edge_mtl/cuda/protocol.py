"""What the rest of the package asks of CUDA: one device's memory, streams, events, graphs and small kernels.

Knows no binding. Rules for all of it: calls are made within `Cuda.active()`, objects are freed by `free()` in there and
never by the garbage collector, and every failed call raises `CudaError`, `CudaOutOfMemory` or `BackendUnavailable`.
Addresses are plain integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["Cuda", "DeviceFacts", "DeviceMemory", "Event", "Graph", "HostMemory", "Kernel", "Module", "Stream"]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One GPU.

    Attributes:
        name: as the driver calls it.
        compute_capability: e.g. (8, 7).
        integrated: CPU and GPU share their memory (Jetson): copying between them is a waste.
        memory_bytes: all of its memory.
        driver: version of CUDA that the driver speaks, e.g. (12, 6).
    """

    name: str
    compute_capability: tuple[int, int]
    integrated: bool
    memory_bytes: int
    driver: tuple[int, int]

    def describe(self) -> str:
        """One line for people."""
        major, minor = self.compute_capability
        kind = ", integrated" if self.integrated else ""
        memory, driver = f"{self.memory_bytes / 2**30:.0f} GiB", ".".join(str(number) for number in self.driver)
        return f"{self.name} (sm_{major}{minor}{kind}, {memory}, CUDA {driver})"


class DeviceMemory(Protocol):
    """Memory of the GPU."""

    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def free(self) -> None: ...


class HostMemory(Protocol):
    """Pinned memory of the host, which the GPU reads and writes directly.

    Attributes:
        array: (nbytes,) uint8 over it; not to be used after `free`.
        device_address: where the GPU sees it, if it was mapped; else 0.
    """

    @property
    def array(self) -> np.ndarray: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def device_address(self) -> int: ...
    def free(self) -> None: ...


class Event(Protocol):
    """A point in a stream."""

    def record(self, stream: Stream) -> None: ...
    def synchronize(self) -> None:
        """Wait on the host until the stream has come this far."""
        ...

    def milliseconds_since(self, earlier: Event) -> float:
        """Between two timed events that have both been reached."""
        ...

    def free(self) -> None: ...


class Stream(Protocol):
    """A queue of work; never the default one."""

    @property
    def handle(self) -> int: ...
    def synchronize(self) -> None: ...
    def wait(self, event: Event) -> None:
        """Later work of this stream starts after `event`."""
        ...

    def free(self) -> None: ...


class Graph(Protocol):
    """Work recorded once and launched as a whole. Memory it uses must stay where it was."""

    def launch(self, stream: Stream) -> None: ...
    def free(self) -> None: ...


class Kernel(Protocol):
    """A function of a module."""

    def launch(self, grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any], stream: Stream) -> None:
        """Args: `arguments` are values of `ctypes`, in the order of the kernel's own."""
        ...


class Module(Protocol):
    """Compiled code on the device."""

    def kernel(self, name: str) -> Kernel: ...
    def free(self) -> None: ...


class Cuda(Protocol):
    """One GPU through its primary context.

    Attributes:
        binding: name and version of the binding.
        facts: the device.
        index: of the device.
        graphs: "" where work can be recorded as a graph, else why not.
    """

    @property
    def binding(self) -> str: ...
    @property
    def facts(self) -> DeviceFacts: ...
    @property
    def index(self) -> int: ...
    @property
    def graphs(self) -> str: ...

    def active(self) -> AbstractContextManager[None]:
        """The context is this thread's current one within the block; the one before it is put back after. May be nested."""
        ...

    def stream(self) -> Stream: ...
    def event(self, *, timed: bool = False) -> Event: ...
    def device_memory(self, nbytes: int) -> DeviceMemory: ...
    def host_memory(self, nbytes: int, *, mapped: bool = False) -> HostMemory: ...

    def copy_in(self, target: int, source: np.ndarray, stream: Stream) -> None:
        """Queue a copy of a C-contiguous, pinned array to the device address `target`."""
        ...

    def copy_out(self, target: np.ndarray, source: int, stream: Stream) -> None:
        """Queue a copy from the device address `source` to a C-contiguous, pinned array: read it after a `synchronize`."""
        ...

    def copy_device(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        """Queue a copy within the device."""
        ...

    def wait_for(self, stream: int | None) -> None:
        """Wait on the host until a stream of somebody else has done its work; None waits for nothing.

        Args:
            stream: its handle; 1 and 2 are the default streams, as `__cuda_array_interface__` counts them.
        """
        ...

    def begin_capture(self, stream: Stream) -> None:
        """Work of this thread for `stream` is recorded from now on, not done."""
        ...

    def end_capture(self, stream: Stream) -> Graph:
        """Stop recording. Raises CudaError where something was called that cannot be recorded; the stream is usable again."""
        ...

    def module(self, code: bytes) -> Module:
        """Load PTX, which the driver compiles for this GPU."""
        ...

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes of the device, now."""
        ...

    def close(self) -> None:
        """Give the primary context back; whoever else holds it keeps it. Everything made here is freed before."""
        ...
