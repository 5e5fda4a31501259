"""CUDA memory, streams, events, graphs and small kernels, behind one protocol with two bindings.

    cuda = open_cuda(0)
    with cuda.active():
        stream, pinned, device = cuda.stream(), cuda.host_memory(1024), cuda.device_memory(1024)

Knows which bindings there are and which is here; knows nothing about networks or frames. pycuda is taken where it is
installed, NVIDIA's own `cuda-bindings` otherwise. Nothing is imported before a device is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from edge_mtl.cuda.errors import CudaError, CudaOutOfMemory
from edge_mtl.cuda.protocol import Cuda, DeviceFacts, DeviceMemory, Event, Graph, HostMemory, Kernel, Module, Stream
from edge_mtl.errors import BackendUnavailable
from edge_mtl.packages import look_for

__all__ = [
    "BINDINGS",
    "Cuda",
    "CudaError",
    "CudaOutOfMemory",
    "DeviceFacts",
    "DeviceMemory",
    "Event",
    "Graph",
    "HostMemory",
    "Kernel",
    "Module",
    "Stream",
    "current_gpu",
    "installed_binding",
    "open_cuda",
]

BINDINGS: Mapping[str, tuple[str, str]] = {
    "pycuda": ("pycuda", "edge_mtl.cuda.pycuda_binding"),
    "cuda-bindings": ("cuda.bindings", "edge_mtl.cuda.nvidia_binding"),
}
"""Package looked for and module of ours that uses it, by name; the first that is installed is taken."""

_INSTALL = 'Install one with: pip install "edge-mtl[jetson]" (pycuda), or pip install cuda-bindings'


def installed_binding() -> str | None:
    """Name of the binding that `open_cuda` would take, None where there is none. Imports nothing heavy."""
    return next((name for name, (package, _) in BINDINGS.items() if _found(package)), None)


def open_cuda(device: int = 0, *, binding: str | None = None) -> Cuda:
    """Retain the primary context of a GPU: the one that PyTorch and ONNX Runtime use in this process.

    Args:
        device: index, as `CUDA_VISIBLE_DEVICES` leaves them.
        binding: one of `BINDINGS`; by default the first that is installed.
    Raises:
        BackendUnavailable: no binding, no driver, or no such device.
    """
    name = installed_binding() if binding is None else binding
    if name is None:
        raise BackendUnavailable(f"Neither {' nor '.join(BINDINGS)} is installed: CUDA cannot be used from Python. {_INSTALL}")
    if name not in BINDINGS:
        raise BackendUnavailable(f"Unknown CUDA binding {name!r}. Choose one of: {', '.join(BINDINGS)}")
    if device < 0:
        raise BackendUnavailable(f"A CUDA device has an index of 0 or more; found {device}")
    try:
        module = importlib.import_module(BINDINGS[name][1])
    except (ImportError, OSError) as exc:  # pycuda's own library needs the driver's
        raise BackendUnavailable(
            f"{name} does not import ({str(exc).splitlines()[0] if str(exc) else type(exc).__name__}). "
            "Check that NVIDIA's driver is installed (nvidia-smi; on a Jetson JetPack brings it). " + _INSTALL
        ) from exc
    cuda: Cuda = module.open_device(device)
    return cuda


@contextmanager
def current_gpu(device: int) -> Iterator[None]:
    """For the block, libraries that ask CUDA which GPU to work on get `device`.

    The first one is what they take by themselves: for that nothing is opened. Raises as `open_cuda` does.
    """
    if device == 0:
        yield
        return
    cuda = open_cuda(device)
    try:
        with cuda.active():
            yield
    finally:
        cuda.close()


def _found(package: str) -> bool:
    return look_for(package) == "whole"
