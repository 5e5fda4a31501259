"""Memory for one run in flight: pinned host and device buffers of every input and output, allocated once.

Knows CUDA's memory and the two ways to it; knows nothing about TensorRT. On a GPU with memory of its own there are copies
in and out; on an integrated one (Jetson) both sides see the same mapped memory and nothing is copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edge_mtl.backends import TensorSpec
from edge_mtl.cuda import Cuda, DeviceMemory, Event, HostMemory, Stream
from edge_mtl.cuda.arrays import DeviceArray
from edge_mtl.cuda.letterbox import DeviceFrame, LetterboxKernel
from edge_mtl.image.buffer_pool import BufferPool

__all__ = ["BufferSet", "Feed"]

Array = np.ndarray
Feed = Array | DeviceArray | DeviceFrame
"""An input: an array of the host, one on the GPU, or a frame on the GPU that is still to be letterboxed."""


class BufferSet:
    """Buffers of one run and the events that say how far it is. Calls are made within `Cuda.active()`.

    Attributes:
        number: tells sets apart, for graphs, which hold addresses.
        filled, computed, done: inputs are there; outputs are computed; outputs are on the host.
    """

    def __init__(self, cuda: Cuda, sizes: Mapping[str, int], *, number: int) -> None:
        """Allocate.

        Args:
            sizes: bytes by name of an input or output, at the largest shapes.
        Raises:
            CudaOutOfMemory: nothing is kept then.
        """
        self.number = number
        self._cuda = cuda
        self._shared = cuda.facts.integrated
        self._host: dict[str, HostMemory] = {}
        self._device: dict[str, DeviceMemory] = {}
        self._events: list[Event] = []
        try:
            for name, nbytes in sizes.items():
                self._host[name] = cuda.host_memory(nbytes, mapped=self._shared)
                if not self._shared:
                    self._device[name] = cuda.device_memory(nbytes)
            for _ in range(3):
                self._events.append(cuda.event())
        except BaseException:
            self.free()
            raise
        self.filled, self.computed, self.done = self._events

    @property
    def addresses(self) -> dict[str, int]:
        """Where the GPU finds every tensor; never changes."""
        return {name: self.address(name) for name in self._host}

    def address(self, name: str) -> int:
        """Where the GPU finds a tensor."""
        return self._host[name].device_address if self._shared else self._device[name].address

    def fill(self, name: str, spec: TensorSpec, feed: Feed, stream: Stream, letterbox: LetterboxKernel | None) -> None:
        """Queue what brings an input to the GPU; `feed` may be changed once this returns, unless it lies on the GPU."""
        if isinstance(feed, DeviceFrame):
            assert letterbox is not None  # whoever let the frame pass has made it
            self._cuda.wait_for(feed.array.stream)
            letterbox(feed, self.address(name), spec, stream)
        elif isinstance(feed, DeviceArray):
            self._cuda.wait_for(feed.stream)
            self._cuda.copy_device(self.address(name), feed.address, feed.nbytes, stream)
        else:
            pinned = self._view(name, spec)
            np.copyto(pinned, feed)
            if not self._shared:
                self._cuda.copy_in(self.address(name), pinned, stream)

    def fetch(self, name: str, spec: TensorSpec, stream: Stream) -> None:
        """Queue what brings an output to the host."""
        if not self._shared:
            self._cuda.copy_out(self._view(name, spec), self.address(name), stream)

    def taken(self, name: str, spec: TensorSpec, pool: BufferPool) -> Array:
        """A copy of an output that belongs to the caller, once `done` was reached."""
        copy = pool.take(spec.shape, spec.dtype)
        np.copyto(copy, self._view(name, spec))
        return copy

    def free(self) -> None:
        """Give the memory back; calling it again does nothing."""
        for pinned in self._host.values():
            pinned.free()
        for memory in self._device.values():
            memory.free()
        for event in self._events:
            event.free()
        self._host, self._device, self._events = {}, {}, []

    def _view(self, name: str, spec: TensorSpec) -> Array:
        nbytes = math.prod(spec.shape) * spec.dtype.itemsize
        return self._host[name].array[:nbytes].view(spec.dtype).reshape(spec.shape)
