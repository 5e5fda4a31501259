"""What `edge-mtl benchmark` times: engines as applications use them, and graphs without an engine around them.

Knows how to run a frame and keep its times; which ones are compared, and in what order, is decided by the caller.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from edge_mtl.backends import Backend, BackendInfo, TensorSpec
from edge_mtl.build.frame_path import FramePath
from edge_mtl.bundle import PLAIN_MODEL, Bundle
from edge_mtl.commands.footprint import Footprint, measure
from edge_mtl.engine import Engine

__all__ = ["BenchmarkRow", "EngineSubject", "GraphSubject", "Subject"]

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One engine; times in milliseconds of a whole frame, picture to maps.

    Attributes:
        name: precision and backend.
        engine_key: of the built engine; None for graphs of the bundle.
        ratio, ratio_low, ratio_high: how many times faster than the baseline: median and quartiles over rounds.
        prepare_ms, infer_ms, postprocess_ms: medians; None where not known, or done by the graph.
        start_s, rss_bytes: from process start to first prediction, and peak memory, each in a process of its own.
    """

    name: str
    precision: str
    backend: str
    runtime_version: str
    threads: int
    engine_key: str | None
    p50_ms: float
    p90_ms: float
    p99_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    prepare_ms: float | None
    infer_ms: float | None
    postprocess_ms: float | None
    load_s: float
    start_s: float | None
    rss_bytes: int | None


class Subject:
    """A callable to time. It keeps the times of its calls, of which `measure_interleaved` times every second one."""

    def __init__(self, name: str, bundle: Bundle, frame: Array) -> None:
        self.name = name
        self._bundle = bundle
        self._pixels = frame
        self._calls: list[tuple[float, float | None, float, float | None]] = []

    def __call__(self) -> None:
        started = time.perf_counter()
        prepare, infer, postprocess = self._frame()
        self._calls.append((time.perf_counter() - started, prepare, infer, postprocess))

    def row(self, count: int, ratios: tuple[float, float, float]) -> BenchmarkRow:
        """The measurements of the last `count` timed calls; starts a process for memory and start-up."""
        info, load_s, key = self._facts()
        timed = self._calls[-2 * count :][1::2]
        p50, p90, p99 = (float(value) for value in np.percentile([call[0] * 1e3 for call in timed], (50, 90, 99)))
        stages = [_median_ms([call[index] for call in timed]) for index in (1, 2, 3)]
        start_s, rss_bytes = _fields(self._footprint(info))
        return BenchmarkRow(
            name=self.name,
            precision=info.precision,
            backend=info.name,
            runtime_version=info.version,
            threads=info.threads,
            engine_key=key,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            ratio=ratios[0],
            ratio_low=ratios[1],
            ratio_high=ratios[2],
            prepare_ms=stages[0],
            infer_ms=stages[1],
            postprocess_ms=stages[2],
            load_s=load_s,
            start_s=start_s,
            rss_bytes=rss_bytes,
        )

    def close(self) -> None:
        raise NotImplementedError

    def _frame(self) -> tuple[float | None, float, float | None]:
        """One frame; seconds for preparing (None where not known), inference and post-processing."""
        raise NotImplementedError

    def _facts(self) -> tuple[BackendInfo, float, str | None]:
        """What runs it, seconds that loading took, key of the built engine."""
        raise NotImplementedError

    def _footprint(self, info: BackendInfo) -> Footprint | None:
        raise NotImplementedError


class EngineSubject(Subject):
    """An Engine, as applications use it."""

    def __init__(self, name: str, bundle: Bundle, engine: Engine, frame: Array) -> None:
        super().__init__(name, bundle, frame)
        self._engine = engine

    def close(self) -> None:
        self._engine.close()

    def _frame(self) -> tuple[float | None, float, float | None]:
        timing = self._engine.predict(self._pixels).timing
        return timing.prepare, timing.infer, timing.postprocess

    def _facts(self) -> tuple[BackendInfo, float, str | None]:
        info = self._engine.info
        used = BackendInfo(info.backend, info.runtime_version, info.device, info.precision, info.threads)
        return used, info.load_s, info.engine_key

    def _footprint(self, info: BackendInfo) -> Footprint | None:
        return measure(self._bundle.path, backend=info.name, precision=info.precision, threads=info.threads)


class GraphSubject(Subject):
    """A graph and the same pre- and post-processing, without an Engine. Of its stages only inference is known."""

    def __init__(
        self, name: str, bundle: Bundle, backend: Backend, frame: Array, *, load_s: float, key: str | None = None
    ) -> None:
        super().__init__(name, bundle, frame)
        self._backend = backend
        self._path = FramePath(self, bundle.manifest)  # this object, so that `run` can be timed
        self._load_s = load_s
        self._key = key
        self._infer_s = 0.0

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
        started = time.perf_counter()
        outputs = self._backend.run(feeds)
        self._infer_s = time.perf_counter() - started
        return outputs

    def close(self) -> None:
        self._backend.close()

    def _frame(self) -> tuple[float | None, float, float | None]:
        self._path(self._pixels)
        return None, self._infer_s, None

    def _facts(self) -> tuple[BackendInfo, float, str | None]:
        return self._backend.info, self._load_s, self._key

    def _footprint(self, info: BackendInfo) -> Footprint | None:
        path, threads = self._bundle.path, info.threads
        return measure(path, backend=info.name, precision=info.precision, threads=threads, graph=self._key or PLAIN_MODEL)


def _median_ms(seconds: list[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return median(known) * 1e3 if known else None


def _fields(footprint: Footprint | None) -> tuple[float | None, int | None]:
    return (None, None) if footprint is None else (footprint.start_s, footprint.rss_bytes)
