"""What `edge-mtl benchmark` times: engines as applications use them, and graphs without an engine around them.

Knows how to run a frame and say where its time went; which ones are compared, and in what order, is decided by the
caller.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from edge_mtl.backends import Backend, BackendInfo, TensorSpec
from edge_mtl.bench.footprint import Footprint, measure
from edge_mtl.bench.report import BenchmarkRow
from edge_mtl.bench.sensors import Unavailable
from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.prediction import Timing
from edge_mtl.tasks import Result

__all__ = ["BatchTarget", "BenchmarkRow", "BenchmarkTarget", "EngineTarget", "Facts", "GraphTarget"]

Array = np.ndarray
Camera = tuple[float, float, float, float]
"""(fx, fy, cx, cy) in pixels."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What runs.

    Attributes:
        load_s: seconds that loading took, in this process.
        key: of the built engine; None for a graph of the bundle.
        size_bytes: of the graph; None where not known.
    """

    info: BackendInfo
    load_s: float
    key: str | None = None
    size_bytes: int | None = None


class BenchmarkTarget(ABC):
    """A callable to time: one call is one frame, from image to maps."""

    batch = 1

    def __init__(self, name: str, bundle: Bundle, frame: Array) -> None:
        self.name = name
        self.bundle = bundle
        self.frame = frame

    @abstractmethod
    def __call__(self) -> Timing: ...

    @property
    @abstractmethod
    def facts(self) -> Facts: ...

    @abstractmethod
    def footprint(self) -> Footprint | Unavailable | None:
        """Start-up and memory in a process of its own, or why not; None where it is not asked."""

    @abstractmethod
    def close(self) -> None: ...

    def results(self, frame: Array, intrinsics: Camera | None) -> Mapping[str, Result]:
        """By task, what is predicted of an (H, W, 3) uint8 frame of network size; only for those that say they can."""
        raise NotImplementedError(f"{self.name} does not finish frames")

    @property
    def can_finish(self) -> bool:
        """Whether `results` works."""
        return True

    def stream(self, count: int) -> None:
        """Run `count` frames as a recording; only for those that say they can."""
        raise NotImplementedError(f"{self.name} cannot stream")

    @property
    def can_stream(self) -> bool:
        """Whether `stream` works."""
        return False


class EngineTarget(BenchmarkTarget):
    """An Engine, as applications use it."""

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        engine: Engine,
        frame: Array,
        *,
        size_bytes: int | None = None,
    ) -> None:
        super().__init__(name, bundle, frame)
        self.engine = engine
        self._size_bytes = size_bytes

    def __call__(self) -> Timing:
        return self.engine.predict(self.frame).timing

    @property
    def facts(self) -> Facts:
        info = self.engine.info
        used = BackendInfo(info.backend, info.runtime_version, info.device, info.precision, info.threads)
        return Facts(used, info.load_s, info.engine_key, self._size_bytes)

    def footprint(self) -> Footprint | Unavailable:
        info = self.engine.info
        return measure(self.bundle.path, backend=info.backend, precision=info.precision, threads=info.threads)

    def close(self) -> None:
        self.engine.close()

    def stream(self, count: int) -> None:
        deque(self.engine.stream(repeat(self.frame, count)), maxlen=0)

    @property
    def can_stream(self) -> bool:
        return True

    def results(self, frame: Array, intrinsics: Camera | None) -> Mapping[str, Result]:
        return self.engine.predict(frame, intrinsics=intrinsics).results


class GraphTarget(BenchmarkTarget):
    """A graph and the same pre- and post-processing, without an Engine."""

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        backend: Backend,
        frame: Array,
        *,
        load_s: float,
        key: str | None = None,
        size_bytes: int | None = None,
    ) -> None:
        super().__init__(name, bundle, frame)
        self._backend = backend
        self._path = InferencePipeline(self, bundle.manifest)  # this object, so that `run` can be timed
        self._facts = Facts(backend.info, load_s, key, size_bytes)
        self._began_s = self._ended_s = 0.0

    def __call__(self) -> Timing:
        arrived_s = time.perf_counter()
        self._path(self.frame)
        done_s = time.perf_counter()
        return Timing(
            prepare=self._began_s - arrived_s,
            infer=self._ended_s - self._began_s,
            postprocess=done_s - self._ended_s,
            total=done_s - arrived_s,
        )

    @property
    def info(self) -> BackendInfo:
        return self._backend.info

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._backend.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._backend.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """As `Backend.run`, timed."""
        self._began_s = time.perf_counter()
        outputs = self._backend.run(feeds)
        self._ended_s = time.perf_counter()
        return outputs

    def results(self, frame: Array, intrinsics: Camera | None) -> Mapping[str, Result]:
        return self._path(frame, intrinsics).results

    @property
    def facts(self) -> Facts:
        return self._facts

    def footprint(self) -> Footprint | Unavailable:
        info, key = self._facts.info, self._facts.key
        graph = key or REFERENCE_ONNX
        return measure(self.bundle.path, backend=info.name, precision=info.precision, threads=info.threads, graph=graph)

    def close(self) -> None:
        self._backend.close()


class BatchTarget(BenchmarkTarget):
    """Inference of several frames: at once by a graph of a batch, or one after the other by a graph of one frame.

    Only inference is timed: an Engine takes one frame at a time, as frames come from a camera.

    Args:
        feeds: what each call of the graph gets, one after the other.
        batch: frames in all of them together.
    """

    def __init__(
        self, name: str, bundle: Bundle, backend: Backend, frame: Array, *, feeds: Sequence[Array], batch: int, facts: Facts
    ) -> None:
        super().__init__(name, bundle, frame)
        self.batch = batch
        self._backend = backend
        self._facts = facts
        self._name = next(iter(backend.inputs))
        self._feeds = tuple(feeds)

    def __call__(self) -> Timing:
        began_s = time.perf_counter()
        for feed in self._feeds:
            self._backend.run({self._name: feed})
        seconds = time.perf_counter() - began_s
        return Timing(infer=seconds, total=seconds)

    def outputs(self) -> dict[str, Array]:
        """By name, of all frames behind one another."""
        found = [self._backend.run({self._name: feed}) for feed in self._feeds]
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def can_finish(self) -> bool:
        return False

    def footprint(self) -> None:
        return None

    def close(self) -> None:
        self._backend.close()
