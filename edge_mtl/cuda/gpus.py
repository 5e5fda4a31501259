"""Which NVIDIA GPUs this machine has: name, compute capability, driver, memory. Knows nothing about engines or runtimes.

The driver is asked through its own C library, so no CUDA package is needed, and no context stays behind. Nothing is asked
before it matters: starting CUDA in a process that forks later would break it in the child.

Source of names, numbers and attributes: cuda.h of the CUDA toolkit.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_mtl.cuda.presence import no_gpu

__all__ = ["Gpu", "free_memory", "gpus"]

_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver describes it.

    Attributes:
        name: "NVIDIA GeForce RTX 3080", "Orin", ...
        compute_capability: "8.7"
        driver: newest CUDA version that the driver knows, "12.6".
        memory_bytes: of the GPU; on an integrated one, of the machine.
        integrated: whether it shares the memory of the processor, as on a Jetson.
    """

    name: str
    compute_capability: str
    driver: str
    memory_bytes: int = 0
    integrated: bool = False

    def describe(self) -> str:
        """One line for people."""
        return f"{self.name} (compute capability {self.compute_capability}, driver for CUDA {self.driver})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Gpu:
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError on anything else."""
        return cls(
            name=str(values["name"]),
            compute_capability=str(values["compute_capability"]),
            driver=str(values["driver"]),
            memory_bytes=int(values["memory_bytes"]),
            integrated=bool(values["integrated"]),
        )


def gpus() -> tuple[Gpu, ...]:
    """Every GPU that CUDA sees, in its order; none where there is no driver or it does not answer."""
    return () if no_gpu() else _asked(os.environ.get("CUDA_VISIBLE_DEVICES", ""))


def free_memory(gpu: Gpu, *, index: int = 0) -> int:
    """Bytes that a process may still take of a GPU's memory; 0 where the driver does not say."""
    if gpu.integrated:
        with suppress(OSError, ValueError, IndexError):
            lines = Path("/proc/meminfo").read_text().splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        return 0
    driver = _library()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if driver is None or driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return 0
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return 0
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return 0
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        return 0 if failed else int(free.value)
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)


def _library() -> Any | None:
    for name in _LIBRARIES:
        with suppress(OSError):
            return ctypes.CDLL(name)
    return None


@functools.cache
def _asked(visible: str) -> tuple[Gpu, ...]:
    """`visible` only keeps answers for different settings of the environment apart."""
    driver = _library()
    count, version = ctypes.c_int(), ctypes.c_int()
    if driver is None or driver.cuInit(0) or driver.cuDriverGetVersion(ctypes.byref(version)):
        return ()
    if driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    found = (_describe(driver, index, cuda) for index in range(count.value))
    return tuple(gpu for gpu in found if gpu is not None)


def _describe(driver: Any, index: int, cuda: str) -> Gpu | None:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    if (
        driver.cuDeviceGet(ctypes.byref(device), index)
        or driver.cuDeviceGetName(name, _NAME_BYTES, device)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    ):
        return None

    def ask(attribute: int) -> int:
        value = ctypes.c_int()
        return 0 if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) else value.value

    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{ask(_MAJOR)}.{ask(_MINOR)}",
        driver=cuda,
        memory_bytes=int(memory.value),
        integrated=bool(ask(_INTEGRATED)),
    )
