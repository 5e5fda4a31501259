"""A deserialised plan: its tensors, their shapes and types, and an execution context. Knows TensorRT; allocates nothing.

Everything TensorRT answers with None or False is checked here, and what it logged becomes part of the error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.backends import TensorSpec
from edge_mtl.backends.tensorrt.api import Heard, Library, listening, logger_of
from edge_mtl.cuda import CudaOutOfMemory
from edge_mtl.errors import BackendUnavailable, BundleError, EdgeMtlError, EngineMismatch, InferenceError

__all__ = ["IoTensor", "Plan", "failure"]

_DTYPES: Mapping[str, str] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_REBUILD = "Build it again on this device: edge-mtl build-engine BUNDLE --int8"
_OTHER_VERSION = re.compile(
    r"version|serialization|stale|compatib|different (device|platform|gpu)|compute capability|sm_?\d", re.I
)
_NO_MEMORY = re.compile(r"out ?of ?memory|insufficient memory|cudaErrorMemoryAllocation", re.I)


@dataclass(frozen=True, slots=True)
class IoTensor:
    """An input or output.

    Attributes:
        smallest, usual, largest: shapes that the plan's first profile allows; all the same where it is fixed.
            None for an output whose shape follows from the inputs.
    """

    name: str
    is_input: bool
    dtype: np.dtype
    smallest: tuple[int, ...] | None
    usual: tuple[int, ...] | None
    largest: tuple[int, ...] | None

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one shape."""
        return self.smallest is not None and self.smallest == self.largest

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Whether an input may have this shape."""
        if self.smallest is None or self.largest is None or len(shape) != len(self.smallest):
            return False
        return all(low <= side <= high for low, side, high in zip(self.smallest, shape, self.largest, strict=True))


class Plan:
    """Runtime, engine and execution context of one plan. Not for several threads at once."""

    def __init__(self, plan: bytes, library: Library) -> None:
        """Deserialise. The GPU's context must be current.

        Raises:
            BackendUnavailable: the library makes no runtime here.
            EngineMismatch, BundleError: the plan is of another version or GPU, or damaged.
            CudaOutOfMemory: it does not fit.
        """
        self._library = library
        with listening(library) as heard:
            self._runtime = _made(library.module.Runtime, logger_of(library))
            if self._runtime is None:
                raise BackendUnavailable(
                    f"{library.describe()} does not start here{_said(heard)}. Check the driver: nvidia-smi"
                )
            if hasattr(self._runtime, "engine_host_code_allowed"):
                # Version-compatible plans hold code for the host. The bytes were verified, and any plan is code.
                self._runtime.engine_host_code_allowed = True
            self._engine = _made(self._runtime.deserialize_cuda_engine, plan)
            if self._engine is None:
                raise _not_loaded(library, heard)
            self._context = _made(self._engine.create_execution_context)
            if self._context is None:
                raise failure(library, "makes no execution context", heard)
        self.tensors: dict[str, IoTensor] = {tensor.name: tensor for tensor in self._describe()}
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def working_bytes(self) -> int:
        """Memory that running takes besides weights, inputs and outputs; 0 where the library does not say."""
        for name in ("device_memory_size_v2", "device_memory_size"):
            value = getattr(self._engine, name, None)
            if value is not None:
                return int(value)
        return 0

    def specs(self, *, inputs: bool) -> dict[str, TensorSpec]:
        """Shapes and types of the inputs, or of the outputs, at the profile's usual shapes."""
        self.set_shapes({tensor.name: tensor.usual for tensor in self.tensors.values() if tensor.is_input and tensor.usual})
        chosen = [tensor for tensor in self.tensors.values() if tensor.is_input == inputs]
        return {tensor.name: TensorSpec(self.shape(tensor.name), tensor.dtype) for tensor in chosen}

    def set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Shapes of all inputs from now on. Raises InferenceError for what the profile does not allow."""
        if self._shapes == shapes:
            return
        for name, shape in shapes.items():
            tensor = self.tensors[name]
            if not tensor.allows(shape):
                raise InferenceError(
                    f"{self._library.describe()}: {name} should have a shape from {tensor.smallest} to {tensor.largest}; "
                    f"found {shape}"
                )
        with listening(self._library) as heard:
            for name, shape in shapes.items():
                if self.tensors[name].is_fixed:
                    continue
                if not self._context.set_input_shape(name, shape):
                    raise failure(self._library, f"refuses the shape {shape} of {name}", heard)
        self._shapes = dict(shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an input or output, with the shapes that are set."""
        shape = tuple(int(side) for side in self._context.get_tensor_shape(name))
        if any(side < 0 for side in shape):
            raise InferenceError(f"{self._library.describe()}: {name} has the shape {shape}, which depends on values.")
        return shape

    def most_bytes(self, name: str) -> int:
        """What a buffer for this tensor must hold, whatever shapes are set later."""
        tensor = self.tensors[name]
        if tensor.is_input:
            return _bytes(tensor.largest or (), tensor.dtype)
        self.set_shapes({other.name: other.largest for other in self.tensors.values() if other.is_input and other.largest})
        return _bytes(self.shape(name), tensor.dtype)

    def execute(self, addresses: Mapping[str, int], stream: int) -> None:
        """Queue one run on a stream. Raises InferenceError with what the library said."""
        with listening(self._library) as heard:
            for name, address in addresses.items():
                if not self._context.set_tensor_address(name, address):
                    raise failure(self._library, f"refuses the address of {name}", heard)
            if not self._context.execute_async_v3(stream):
                raise failure(self._library, "does not run", heard)

    def watch(self, profiler: Any | None) -> None:
        """Have the library report the time of every layer to `profiler`, an IProfiler of its own; None for nobody."""
        self._context.profiler = profiler

    def release(self) -> None:
        """Free what the library holds, in the order it asks for. The GPU's context must be current."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _describe(self) -> list[IoTensor]:
        inputs = self._library.module.TensorIOMode.INPUT
        found = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            kind = str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]
            if kind not in _DTYPES:
                raise BundleError(f"{name} has the type {kind}, which NumPy does not have. Build the engine again.")
            is_input = self._engine.get_tensor_mode(name) == inputs
            shape = tuple(int(side) for side in self._engine.get_tensor_shape(name))
            fixed = all(side >= 0 for side in shape)
            limits: tuple[tuple[int, ...] | None, ...] = (shape, shape, shape) if fixed else (None, None, None)
            if is_input and not fixed:
                limits = tuple(tuple(int(s) for s in each) for each in self._engine.get_tensor_profile_shape(name, 0))
            found.append(IoTensor(name, is_input, np.dtype(_DTYPES[kind]), *limits))
        return found


def failure(library: Library, what: str, heard: Heard) -> EdgeMtlError:
    """The error for something the library did not do."""
    text = f"{library.describe()} {what}{_said(heard)}."
    if any(_NO_MEMORY.search(line) for line in heard.errors):
        return CudaOutOfMemory(f"{text} Free memory of the GPU (nvidia-smi tells who uses it) or use a smaller engine.")
    return InferenceError(text)


def _not_loaded(library: Library, heard: Heard) -> EdgeMtlError:
    said = " ".join(heard.errors)
    if _NO_MEMORY.search(said):
        return failure(library, "cannot load the engine", heard)
    if _OTHER_VERSION.search(said):
        return EngineMismatch(
            f"The engine was built for another version or GPU than {library.describe()} here{_said(heard)}. {_REBUILD}"
        )
    return BundleError(f"{library.describe()} cannot load the engine{_said(heard)}. {_REBUILD}")


def _made(factory: Any, *arguments: Any) -> Any:
    """What a factory of the library makes; None also where its binding raises for want of it."""
    try:
        return factory(*arguments)
    except (TypeError, RuntimeError, MemoryError):
        return None


def _said(heard: Heard) -> str:
    lines = [line.strip() for line in heard.errors[-2:] if line.strip()]
    return f" ({' '.join(lines)[:400]})" if lines else ""


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return max(1, math.prod(shape)) * dtype.itemsize
