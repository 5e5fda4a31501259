"""A TensorRT that is not there: the calls `edge_mtl.backends.tensorrt` makes, over `tests.fakes.cuda`.

A fake plan is JSON after the magic bytes: shapes, types, and which faults it has. The "network" writes, into every output,
the sum of the input's bytes plus the output's number, in the output's type, when the stream comes to it and not before.
"""

from __future__ import annotations

import enum
import json
import threading
from typing import Any

import numpy as np

from edge_mtl.backends.tensorrt.api import Library
from tests.fakes.cuda import FakeCuda


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = "float32"
    HALF = "float16"
    UINT8 = "uint8"
    INT64 = "int64"
    FP8 = "fp8"


DTYPES = {
    "float32": DataType.FLOAT,
    "float16": DataType.HALF,
    "uint8": DataType.UINT8,
    "int64": DataType.INT64,
    "fp8": DataType.FP8,
}


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass


def plan(
    inputs: dict[str, Any] | None = None, outputs: dict[str, Any] | None = None, *, magic: bytes = b"ftrt", **faults: Any
) -> bytes:
    """A plan: {name: (shape, type)} or, for a dynamic input, {name: (smallest, usual, largest, type)}.

    faults: `version` it was made with, `deserialise`, `context`, `shape`, `address`, `execute`: what to log and refuse with.
    """
    described = {
        "inputs": inputs or {"image": ((1, 4, 6, 3), "uint8")},
        "outputs": outputs or {"segmentation": ((1, 4, 6), "uint8"), "depth": ((1, 4, 6), "float32")},
        "faults": faults,
    }
    return magic + json.dumps(described).encode() + b" " * 64 + b"end"


class Context:
    """One execution context; two threads in it at once is what breaks the real one."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses, self.shapes = engine, {}, {}
        self.inside = threading.Lock()

    def set_input_shape(self, name: str, shape: Any) -> bool:
        if self.engine.refuses("shape"):
            return False
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self.shapes.values()), (1,))[0]
        shape = self.shapes.get(name) or self.engine.get_tensor_shape(name)
        return tuple(batch if side < 0 and self.shapes else side for side in shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        if self.engine.refuses("address"):
            return False
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if not self.inside.acquire(blocking=False):
            raise AssertionError("an execution context was used by two threads at once")
        try:
            if self.engine.refuses("execute"):
                return False
            cuda = self.engine.cuda
            self.engine.module.executed += 1
            if self.engine.faults.get("synchronises"):  # work that cannot be recorded
                found = cuda.streams[stream]
                if found.recording is not None:
                    found.broken_recording = True
                    return True
            addresses = dict(self.addresses)
            names = [(name, self.get_tensor_shape(name)) for name in self.engine.names]
            cuda.streams[stream].add(lambda: self.engine.compute(addresses, dict(names)))
            return True
        finally:
            self.inside.release()


class Engine:
    def __init__(self, module: Module, described: dict[str, Any]) -> None:
        self.module, self.cuda = module, module.cuda
        self.inputs, self.outputs, self.faults = described["inputs"], described["outputs"], dict(described["faults"])
        self.names = [*self.inputs, *self.outputs]
        self.num_io_tensors = len(self.names)
        self.device_memory_size_v2 = 4096

    def refuses(self, what: str) -> bool:
        text = self.faults.get(what)
        if text:
            self.module.say(text)
        return bool(text)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DTYPES[self._entry(name)[-1]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        entry = self._entry(name)
        if len(entry) == 2:
            return tuple(entry[0])
        return tuple(-1 if low != high else low for low, high in zip(entry[0], entry[2], strict=True))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert profile == 0
        return list(self._entry(name)[:3])

    def create_execution_context(self) -> Context | None:
        return None if self.refuses("context") else Context(self)

    def compute(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> None:
        total = 0
        for name in self.inputs:
            total += int(self.cuda.at(addresses[name], self._nbytes(name, shapes[name])).sum())
        for number, name in enumerate(self.outputs):
            dtype = np.dtype(self._entry(name)[-1])
            answer = np.full(shapes[name], (total + number) % 251, dtype)
            self.cuda.at(addresses[name], answer.nbytes)[:] = answer.reshape(-1).view(np.uint8)

    def _nbytes(self, name: str, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape)) * np.dtype(self._entry(name)[-1]).itemsize

    def _entry(self, name: str) -> Any:
        return (self.inputs if name in self.inputs else self.outputs)[name]


class Runtime:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, payload: bytes) -> Engine | None:
        self.module.deserialised += 1
        assert len(payload) >= 64, "the real one may end the process here"
        try:
            described, _ = json.JSONDecoder().raw_decode(payload[4:].decode(errors="replace"))
        except ValueError:
            self.module.say("IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Magic tag does not match)")
            return None
        if not payload.endswith(b"end"):
            self.module.say("IRuntime::deserializeCudaEngine: Error Code 4: end of the buffer reached")
            return None
        made_with = described["faults"].get("version")
        if made_with:
            self.module.say(
                f"The engine plan file is not compatible with this version of TensorRT, expecting 10.3.0 got {made_with}"
            )
            return None
        if text := described["faults"].get("deserialise"):
            self.module.say(text)
            return None
        return Engine(self.module, described)


class Module:
    """What `import tensorrt` would give."""

    def __init__(self, cuda: FakeCuda, *, starts: bool = True) -> None:
        self.cuda, self.starts = cuda, starts
        self.__name__, self.__version__ = "tensorrt", "10.3.0"
        self.ILogger, self.TensorIOMode, self.DataType = ILogger, TensorIOMode, DataType
        self.logger: Any = None
        self.deserialised = self.executed = 0

    def Runtime(self, logger: Any) -> Runtime:  # noqa: N802
        self.logger = logger
        if not self.starts:
            self.say("CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return Runtime(self)

    def say(self, text: str) -> None:
        if self.logger is not None:
            self.logger.log(ILogger.ERROR, text)


def library(cuda: FakeCuda, *, starts: bool = True) -> Library:
    """A library over a fake GPU."""
    return Library(Module(cuda, starts=starts), "tensorrt", (10, 3, 0))
