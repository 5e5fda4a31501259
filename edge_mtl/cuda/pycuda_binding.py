"""CUDA through pycuda, see `edge_mtl.cuda.protocol`. Importing this module imports pycuda, which needs NVIDIA's driver.

pycuda has no graphs; those come from `edge_mtl.cuda.driver_library`. It frees objects only in the thread whose context
they belong to, so everything here is freed by hand, within `active()`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import numpy as np
import pycuda
import pycuda.driver as drv

from edge_mtl.cuda.driver_library import DriverGraph, DriverLibrary, begin_capture, driver_library, end_capture
from edge_mtl.cuda.errors import cuda_error
from edge_mtl.cuda.protocol import Cuda, DeviceFacts, DeviceMemory, Event, Graph, HostMemory, Kernel, Module, Stream
from edge_mtl.errors import BackendUnavailable, EdgeMtlError

__all__ = ["PycudaDevice", "open_device"]

T = TypeVar("T")
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no waiting for the default stream, which belongs to everybody."""
_FAILED = re.compile(r"(?P<call>\w+) failed: (?P<text>.*)")


def open_device(index: int) -> Cuda:
    """See `edge_mtl.cuda.open_cuda`."""
    with translated():
        drv.init()
        count = drv.Device.count()
        if index >= count:
            raise BackendUnavailable(f"GPU {index} was asked for; the driver shows {count}. Check CUDA_VISIBLE_DEVICES.")
        return PycudaDevice(index)


@contextmanager
def translated() -> Iterator[None]:
    """pycuda's exceptions become ours."""
    try:
        yield
    except drv.Error as exc:
        _translate(exc)
    except MemoryError as exc:
        raise cuda_error("an allocation", "CUDA_ERROR_OUT_OF_MEMORY") from exc


def _translate(exc: Exception) -> NoReturn:
    found = _FAILED.match(str(exc))
    if found is None:
        raise cuda_error("pycuda", "CUDA_ERROR_UNKNOWN", str(exc)) from exc
    text, codes = found["text"], _library().codes
    known = next((sentence for sentence in (text, text.split(" - ")[0]) if sentence in codes), "")
    raise cuda_error(found["call"], codes.get(known, "CUDA_ERROR_UNKNOWN"), text) from exc


def _library() -> DriverLibrary:
    try:
        return driver_library()
    except OSError as exc:  # pycuda itself would not have loaded
        raise BackendUnavailable(f"CUDA's driver library is not to be found ({exc}).") from exc


def _guarded(method: Callable[..., T]) -> Callable[..., T]:
    """`method` with pycuda's exceptions translated."""

    @functools.wraps(method)
    def wrapper(*arguments: Any, **options: Any) -> T:
        try:
            return method(*arguments, **options)
        except drv.Error as exc:
            _translate(exc)

    return wrapper


class _Device:
    """Memory of the GPU."""

    def __init__(self, allocation: Any, nbytes: int) -> None:
        self._allocation: Any = allocation
        self.address, self.nbytes = int(allocation), nbytes

    @_guarded
    def free(self) -> None:
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            allocation.free()


class _Host:
    """Pinned memory of the host."""

    def __init__(self, nbytes: int, *, mapped: bool) -> None:
        flags = drv.host_alloc_flags.PORTABLE | (drv.host_alloc_flags.DEVICEMAP if mapped else 0)
        self.array: np.ndarray = drv.pagelocked_empty(nbytes, np.uint8, mem_flags=flags)
        self._allocation: Any = self.array.base
        self.nbytes = nbytes
        self.device_address = int(self._allocation.get_device_pointer()) if mapped else 0

    @_guarded
    def free(self) -> None:
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            self.array = np.empty(0, np.uint8)
            allocation.free()


class _Stream:
    """A queue of work."""

    def __init__(self) -> None:
        self.native: Any = drv.Stream(_NON_BLOCKING)
        self.handle = int(self.native.handle)

    @_guarded
    def synchronize(self) -> None:
        self.native.synchronize()

    @_guarded
    def wait(self, event: Event) -> None:
        self.native.wait_for_event(event.native)  # type: ignore[attr-defined]

    def free(self) -> None:
        self.native = None


class _Event:
    """A point in a stream."""

    def __init__(self, *, timed: bool) -> None:
        self.native: Any = drv.Event(0 if timed else drv.event_flags.DISABLE_TIMING)

    @_guarded
    def record(self, stream: Stream) -> None:
        self.native.record(stream.native)  # type: ignore[attr-defined]

    @_guarded
    def synchronize(self) -> None:
        self.native.synchronize()

    @_guarded
    def milliseconds_since(self, earlier: Event) -> float:
        return float(self.native.time_since(earlier.native))  # type: ignore[attr-defined]

    def free(self) -> None:
        self.native = None


class _Kernel:
    """A function of a module."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._prepared = ""

    @_guarded
    def launch(self, grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any], stream: Stream) -> None:
        types = "".join(argument._type_ for argument in arguments)
        if types != self._prepared:
            self._function.prepare(types)
            self._prepared = types
        values = [argument.value or 0 for argument in arguments]
        self._function.prepared_async_call((*grid, 1), (*block, 1), stream.native, *values)  # type: ignore[attr-defined]


class _Module:
    """Compiled code on the device."""

    def __init__(self, native: Any) -> None:
        self._native: Any = native

    @_guarded
    def kernel(self, name: str) -> Kernel:
        return _Kernel(self._native.get_function(name))

    def free(self) -> None:
        self._native = None


class PycudaDevice:
    """One GPU, see `edge_mtl.cuda.protocol.Cuda`."""

    def __init__(self, index: int) -> None:
        device = drv.Device(index)
        driver = drv.get_driver_version()
        self.index = index
        self.binding = f"pycuda {getattr(pycuda, 'VERSION_TEXT', '')}".strip()
        self.facts = DeviceFacts(
            name=device.name(),
            compute_capability=tuple(device.compute_capability()),
            integrated=bool(device.get_attribute(drv.device_attribute.INTEGRATED)),
            memory_bytes=int(device.total_memory()),
            driver=(driver // 1000, driver % 1000 // 10),
        )
        missing = _library().missing
        self.graphs = f"this driver has no {', '.join(missing)}" if missing else ""
        self._context: Any = device.retain_primary_context()
        self._closing = weakref.finalize(self, _release, self._context, os.getpid())

    @contextmanager
    def active(self) -> Iterator[None]:
        with translated():
            self._context.push()
        try:
            yield
        finally:
            with translated():
                drv.Context.pop()

    @_guarded
    def stream(self) -> Stream:
        return _Stream()

    @_guarded
    def event(self, *, timed: bool = False) -> Event:
        return _Event(timed=timed)

    def device_memory(self, nbytes: int) -> DeviceMemory:
        with _amount(nbytes, "of the GPU's memory"):
            return _Device(drv.mem_alloc(nbytes), nbytes)

    def host_memory(self, nbytes: int, *, mapped: bool = False) -> HostMemory:
        with _amount(nbytes, "of pinned memory"):
            return _Host(nbytes, mapped=mapped)

    @_guarded
    def copy_in(self, target: int, source: np.ndarray, stream: Stream) -> None:
        drv.memcpy_htod_async(target, source, stream.native)  # type: ignore[attr-defined]

    @_guarded
    def copy_out(self, target: np.ndarray, source: int, stream: Stream) -> None:
        drv.memcpy_dtoh_async(target, source, stream.native)  # type: ignore[attr-defined]

    @_guarded
    def copy_device(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        drv.memcpy_dtod_async(target, source, nbytes, stream.native)  # type: ignore[attr-defined]

    def wait_for(self, stream: int | None) -> None:
        if stream is not None:
            _library().call("cuStreamSynchronize", stream)

    def begin_capture(self, stream: Stream) -> None:
        begin_capture(_library(), stream)

    def end_capture(self, stream: Stream) -> DriverGraph | Graph:
        return end_capture(_library(), stream)

    @_guarded
    def module(self, code: bytes) -> Module:
        return _Module(drv.module_from_buffer(code + b"\0"))

    @_guarded
    def memory(self) -> tuple[int, int]:
        free, total = drv.mem_get_info()
        return int(free), int(total)

    def close(self) -> None:
        if os.getpid() == self._closing_pid():
            self._closing()
        self._context = None

    def _closing_pid(self) -> int:
        found = self._closing.peek()
        return found[2][1] if found is not None else -1


@contextmanager
def _amount(nbytes: int, what: str) -> Iterator[None]:
    """Says how much was asked for where memory runs out."""
    try:
        with translated():
            yield
    except EdgeMtlError as exc:
        if getattr(exc, "code", "") != "CUDA_ERROR_OUT_OF_MEMORY":
            raise
        raise cuda_error(f"taking {nbytes / 2**20:.1f} MiB {what}", "CUDA_ERROR_OUT_OF_MEMORY") from exc


def _release(context: Any, pid: int) -> None:
    """Give the primary context back. pycuda leaves it on this thread's stack, from where it is taken."""
    if os.getpid() != pid:  # a forked child owns nothing
        return
    with suppress(drv.Error, EdgeMtlError):
        context.push()
        context.detach()
        _library().call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
