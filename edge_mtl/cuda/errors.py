"""What can go wrong on a GPU, as two typed errors, and which of it ends the process's use of CUDA. Imports no binding."""

from __future__ import annotations

from typing import Any

from edge_mtl.errors import BackendUnavailable, EdgeMtlError, InferenceError

__all__ = ["STICKY", "CudaError", "CudaOutOfMemory", "cuda_error"]

STICKY: frozenset[str] = frozenset(
    {
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CUDA_ERROR_ASSERT",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
        "CUDA_ERROR_INVALID_ADDRESS_SPACE",
        "CUDA_ERROR_INVALID_PC",
        "CUDA_ERROR_LAUNCH_FAILED",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_CONTEXT_IS_DESTROYED",
        "CUDA_ERROR_NVLINK_UNCORRECTABLE",
        "CUDA_ERROR_DEINITIALIZED",
        "CUDA_ERROR_EXTERNAL_DEVICE",
        "CUDA_ERROR_CONTAINED",
        "CUDA_ERROR_TENSOR_MEMORY_LEAK",
        "CUDA_ERROR_UNKNOWN",
    }
)
"""Errors after which every further call in the context fails: the driver's manual says of each that the process must end
before CUDA can be used again. UNKNOWN is counted in: what is not known is not safe to continue."""

_RESTART = "CUDA cannot be used again in this process: end it and start it again."
_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
_NO_DEVICE = ("CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE", "CUDA_ERROR_STUB_LIBRARY", "CUDA_ERROR_NOT_INITIALIZED")
_NO_DRIVER = ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE")


class CudaError(InferenceError):
    """A call of CUDA's driver failed.

    Attributes:
        code: the driver's name for it, e.g. "CUDA_ERROR_ILLEGAL_ADDRESS".
        sticky: the context is lost, so the process has to be started again; a supervisor should do that.
    """

    def __init__(self, message: str, *, code: str, sticky: bool) -> None:
        super().__init__(message)
        self.code = code
        self.sticky = sticky

    def __reduce__(self) -> tuple[Any, ...]:
        """For processes that hand errors on: what `__init__` wants by name is part of the state."""
        return _restored, (type(self), str(self)), self.__dict__


def _restored(kind: type[CudaError], message: str) -> CudaError:
    return kind.__new__(kind, message)


class CudaOutOfMemory(CudaError):
    """The GPU, or the memory that may be pinned, is used up. Nothing is broken; something smaller may fit."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=_MEMORY, sticky=False)


def cuda_error(call: str, code: str, text: str = "") -> EdgeMtlError:
    """The error to raise for a failed call.

    Args:
        call: what was called, e.g. "cuMemAlloc"; with the amount where that helps.
        code: the driver's name for the error.
        text: the driver's sentence about it.
    """
    what = f"CUDA: {call} failed with {code}{f' ({text})' if text else ''}."
    if code == _MEMORY:
        return CudaOutOfMemory(f"{what} Free memory of the GPU (nvidia-smi tells who uses it) or use a smaller engine.")
    if code in _NO_DEVICE:
        return BackendUnavailable(f"{what} There is no such GPU for this process: check nvidia-smi and CUDA_VISIBLE_DEVICES.")
    if code in _NO_DRIVER:
        return BackendUnavailable(f"{what} The driver and the CUDA libraries do not fit: update the driver or restart.")
    sticky = code in STICKY
    return CudaError(f"{what} {_RESTART}" if sticky else what, code=code, sticky=sticky)
