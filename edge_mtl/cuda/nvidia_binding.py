"""CUDA through NVIDIA's `cuda-bindings`, see `edge_mtl.cuda.protocol`. A wheel: it needs no toolkit to install."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from cuda.bindings import driver

from edge_mtl.cuda.errors import cuda_error
from edge_mtl.cuda.protocol import Cuda, DeviceFacts, DeviceMemory, Event, Graph, HostMemory, Kernel, Module, Stream
from edge_mtl.errors import BackendUnavailable, EdgeMtlError

__all__ = ["NvidiaDevice", "open_device"]

_NON_BLOCKING = 1
_PORTABLE, _MAPPED = 1, 2
_DISABLE_TIMING = 2


def open_device(index: int) -> Cuda:
    """See `edge_mtl.cuda.open_cuda`."""
    try:
        call(driver.cuInit, 0)
    except EdgeMtlError:
        raise
    except Exception as exc:  # the package has an error of its own where the driver's library is missing
        raise BackendUnavailable(
            f"cuda-bindings finds no driver ({str(exc).splitlines()[0] if str(exc) else type(exc).__name__}). "
            "Install NVIDIA's driver; check with nvidia-smi."
        ) from exc
    count = call(driver.cuDeviceGetCount)
    if index >= count:
        raise BackendUnavailable(f"GPU {index} was asked for; the driver shows {count}. Check CUDA_VISIBLE_DEVICES.")
    return NvidiaDevice(index)


def call(function: Any, *arguments: Any, asked: str = "") -> Any:
    """Call a function of the driver; its one result, a tuple of several, or None.

    Args:
        asked: what for, in place of the function's name in an error.
    """
    code, *results = function(*arguments)
    if int(code) != 0:
        texts = []
        for describe in (driver.cuGetErrorName, driver.cuGetErrorString):
            known, text = describe(code)
            texts.append(text.decode(errors="replace") if int(known) == 0 and text else "")
        raise cuda_error(asked or function.__name__, texts[0] or f"error {int(code)}", texts[1])
    if not results:
        return None
    return results[0] if len(results) == 1 else tuple(results)


class _Device:
    """Memory of the GPU."""

    def __init__(self, nbytes: int) -> None:
        self.address = int(call(driver.cuMemAlloc, nbytes, asked=f"taking {nbytes / 2**20:.1f} MiB of the GPU's memory"))
        self.nbytes = nbytes

    def free(self) -> None:
        address, self.address = self.address, 0
        if address:
            call(driver.cuMemFree, address)


class _Host:
    """Pinned memory of the host."""

    def __init__(self, nbytes: int, *, mapped: bool) -> None:
        flags = _PORTABLE | (_MAPPED if mapped else 0)
        asked = f"taking {nbytes / 2**20:.1f} MiB of pinned memory"
        self._pointer = int(call(driver.cuMemHostAlloc, nbytes, flags, asked=asked))
        self.array: np.ndarray = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self._pointer))
        self.nbytes = nbytes
        self.device_address = int(call(driver.cuMemHostGetDevicePointer, self._pointer, 0)) if mapped else 0

    def free(self) -> None:
        pointer, self._pointer = self._pointer, 0
        if pointer:
            self.array = np.empty(0, np.uint8)
            call(driver.cuMemFreeHost, pointer)


class _Stream:
    """A queue of work."""

    def __init__(self) -> None:
        self.native: Any = call(driver.cuStreamCreate, _NON_BLOCKING)
        self.handle = int(self.native)

    def synchronize(self) -> None:
        call(driver.cuStreamSynchronize, self.native)

    def wait(self, event: Event) -> None:
        call(driver.cuStreamWaitEvent, self.native, event.native, 0)  # type: ignore[attr-defined]

    def free(self) -> None:
        native, self.native = self.native, None
        if native is not None:
            call(driver.cuStreamDestroy, native)


class _Event:
    """A point in a stream."""

    def __init__(self, *, timed: bool) -> None:
        self.native: Any = call(driver.cuEventCreate, 0 if timed else _DISABLE_TIMING)

    def record(self, stream: Stream) -> None:
        call(driver.cuEventRecord, self.native, stream.handle)

    def synchronize(self) -> None:
        call(driver.cuEventSynchronize, self.native)

    def milliseconds_since(self, earlier: Event) -> float:
        return float(call(driver.cuEventElapsedTime, earlier.native, self.native))  # type: ignore[attr-defined]

    def free(self) -> None:
        native, self.native = self.native, None
        if native is not None:
            call(driver.cuEventDestroy, native)


class _Graph:
    """Work recorded once."""

    def __init__(self, executable: Any) -> None:
        self._executable: Any = executable

    def launch(self, stream: Stream) -> None:
        call(driver.cuGraphLaunch, self._executable, stream.handle)

    def free(self) -> None:
        executable, self._executable = self._executable, None
        if executable is not None:
            call(driver.cuGraphExecDestroy, executable)


class _Kernel:
    """A function of a module."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def launch(self, grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any], stream: Stream) -> None:
        values = tuple(argument.value or 0 for argument in arguments)
        types = tuple(type(argument) for argument in arguments)
        call(driver.cuLaunchKernel, self._function, *grid, 1, *block, 1, 0, stream.handle, (values, types), 0)


class _Module:
    """Compiled code on the device."""

    def __init__(self, code: bytes) -> None:
        self._native: Any = call(driver.cuModuleLoadData, code + b"\0")

    def kernel(self, name: str) -> Kernel:
        return _Kernel(call(driver.cuModuleGetFunction, self._native, name.encode()))

    def free(self) -> None:
        native, self._native = self._native, None
        if native is not None:
            call(driver.cuModuleUnload, native)


class NvidiaDevice:
    """One GPU, see `edge_mtl.cuda.protocol.Cuda`."""

    def __init__(self, index: int) -> None:
        self._device: Any = call(driver.cuDeviceGet, index)
        attribute, version = driver.CUdevice_attribute, call(driver.cuDriverGetVersion)
        major, minor, integrated = (
            int(call(driver.cuDeviceGetAttribute, kind, self._device))
            for kind in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED,
            )
        )
        name = call(driver.cuDeviceGetName, 256, self._device)
        self.index = index
        self.binding = f"cuda-bindings {importlib.metadata.version('cuda-bindings')}"
        self.facts = DeviceFacts(
            name=name.split(b"\0")[0].decode(errors="replace").strip(),
            compute_capability=(major, minor),
            integrated=bool(integrated),
            memory_bytes=int(call(driver.cuDeviceTotalMem, self._device)),
            driver=(version // 1000, version % 1000 // 10),
        )
        self.graphs = ""
        self._context: Any = call(driver.cuDevicePrimaryCtxRetain, self._device)
        self._closing = weakref.finalize(self, _release, self._device, os.getpid())

    @contextmanager
    def active(self) -> Iterator[None]:
        call(driver.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            call(driver.cuCtxPopCurrent)

    def stream(self) -> Stream:
        return _Stream()

    def event(self, *, timed: bool = False) -> Event:
        return _Event(timed=timed)

    def device_memory(self, nbytes: int) -> DeviceMemory:
        return _Device(nbytes)

    def host_memory(self, nbytes: int, *, mapped: bool = False) -> HostMemory:
        return _Host(nbytes, mapped=mapped)

    def copy_in(self, target: int, source: np.ndarray, stream: Stream) -> None:
        call(driver.cuMemcpyHtoDAsync, target, source.ctypes.data, source.nbytes, stream.handle)

    def copy_out(self, target: np.ndarray, source: int, stream: Stream) -> None:
        call(driver.cuMemcpyDtoHAsync, target.ctypes.data, source, target.nbytes, stream.handle)

    def copy_device(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        call(driver.cuMemcpyDtoDAsync, target, source, nbytes, stream.handle)

    def wait_for(self, stream: int | None) -> None:
        if stream is not None:
            call(driver.cuStreamSynchronize, stream)

    def begin_capture(self, stream: Stream) -> None:
        call(driver.cuStreamBeginCapture, stream.handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self, stream: Stream) -> Graph:
        graph = call(driver.cuStreamEndCapture, stream.handle)
        try:
            return _Graph(call(driver.cuGraphInstantiate, graph, 0))
        finally:
            call(driver.cuGraphDestroy, graph)

    def module(self, code: bytes) -> Module:
        return _Module(code)

    def memory(self) -> tuple[int, int]:
        free, total = call(driver.cuMemGetInfo)
        return int(free), int(total)

    def close(self) -> None:
        self._closing()
        self._context = None


def _release(device: Any, pid: int) -> None:
    """Give the primary context back; a forked child owns nothing."""
    if os.getpid() == pid:
        with suppress(EdgeMtlError):
            call(driver.cuDevicePrimaryCtxRelease, device)
