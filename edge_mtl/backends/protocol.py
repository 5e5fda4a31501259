"""What a runtime is to the rest of the package: a loaded graph that runs, and the values that describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Array", "Backend", "BackendInfo", "CompiledGraph", "OpenOptions", "TensorSpec"]

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and type of one input or output."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What runs a graph: runtime, its version, device, precision asked for, threads.

    Attributes:
        loading: "compiled code" if that spared compiling, else "the graph", with the reason where there was such code.
        device_frames: `run` also takes a `edge_mtl.cuda.letterbox.DeviceFrame`: a frame that lies on the GPU.
    """

    name: str
    version: str
    device: str
    precision: str
    threads: int
    loading: str = "the graph"
    device_frames: bool = False


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """What a runtime made of a graph, to be loaded in its place.

    Attributes:
        payload: to be trusted like a program: whoever reads it from a disk checks who wrote it, and its digest.
        origin: the exact runtime and the options it was made with; another runtime compiles the graph again.
    """

    payload: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a graph is opened; a runtime reads what concerns it. See `edge_mtl.backends.open_backend`.

    Attributes:
        guarded: refuse a graph whose sums of byte products this runtime would compute wrongly here; only the test that
            shows whether it does opens one all the same.
        parallel: how many calls of `run` should compute at once, each by `threads`.
    """

    precision: str = "fp32"
    threads: int | None = None
    device: int = 0
    compiled: CompiledGraph | None = None
    guarded: bool = True
    parallel: int = 1


class Backend(Protocol):
    """One loaded graph. `run` may be called by several threads at once; `close` only when none runs."""

    @property
    def info(self) -> BackendInfo: ...
    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...
    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name; the arrays are the caller's. Raises InferenceError."""
        ...

    def close(self) -> None:
        """Free the graph. Calling it again does nothing."""
        ...
