"""`edge-mtl benchmark`: every engine of this device and the plain FP32 graph, whole frames, in turns.

Knows what is compared and how it is shown; clocks and fairness are in edge_mtl.bench.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from edge_mtl.backends import available, open_backend
from edge_mtl.bench.latency import measure_interleaved
from edge_mtl.build.engines import EngineStore
from edge_mtl.build.evaluation import evaluation_frames
from edge_mtl.build.frame_path import FramePath
from edge_mtl.bundle import PLAIN_MODEL, Bundle, find
from edge_mtl.commands.footprint import Footprint, measure
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import Terminal, table
from edge_mtl.device import fingerprint
from edge_mtl.engine import Engine
from edge_mtl.errors import EngineMismatch

__all__ = ["BASELINE", "BenchmarkRow", "compare", "run"]

Array = np.ndarray
BASELINE = "fp32 on onnxruntime, plain"


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One engine; times in milliseconds of a whole frame, picture to maps.

    Attributes:
        name: precision and backend.
        engine_key: of the built engine; None for graphs of the bundle.
        ratio, ratio_low, ratio_high: how many times faster than the baseline: median and quartiles over rounds.
        prepare_ms, infer_ms, postprocess_ms: medians; None for the baseline, whose graph does all three.
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


def run(terminal: Terminal, options: EngineOptions, *, rounds: int) -> None:
    """Measure and show.

    Raises:
        BundleError, BackendUnavailable, EngineMismatch: what was asked for is not there.
    """
    bundle = find(options.bundle)
    rows = compare(terminal, bundle, options, rounds=rounds)
    if terminal.json_output:
        content = {"bundle": bundle.name, "revision": bundle.manifest.revision, "rounds": rounds, "baseline": BASELINE}
        device = fingerprint().to_dict()
        terminal.record(content | {"device": device, "rows": [asdict(row) for row in rows]})


def compare(terminal: Terminal, bundle: Bundle, options: EngineOptions, *, rounds: int) -> list[BenchmarkRow]:
    """Rows of all engines, the baseline first; shown as a table too."""
    frame = next((item.frame for item in evaluation_frames(bundle)), None)
    if frame is None:
        frame = np.full((bundle.manifest.input.height, bundle.manifest.input.width, 3), 128, np.uint8)
    with contextlib.ExitStack() as stack, terminal.steps() as step:
        step("loading engines", 0, 0)
        baseline = _Baseline(bundle, frame, options.threads)
        stack.callback(baseline.close)
        subjects: list[_Subject] = [baseline]
        for engine in _engines(bundle, options):
            stack.callback(engine.close)
            subjects.append(_EngineSubject(engine, frame))
        report = measure_interleaved(
            {subject.name: subject for subject in subjects},
            baseline=BASELINE,
            rounds=rounds,
            progress=lambda done, total: step("timing whole frames, in turns", done, total),
        )
    rows = []
    with terminal.steps() as step:
        for index, subject in enumerate(subjects):
            step("memory and start-up, each in its own process", index, len(subjects))
            latency = report[subject.name]
            ratios = latency.ratio, latency.ratio_low, latency.ratio_high
            rows.append(subject.row(latency.count, ratios, subject.footprint(bundle, options.threads)))
    _show(terminal, bundle, rows, rounds, frame)
    return rows


def _engines(bundle: Bundle, options: EngineOptions) -> list[Engine]:
    """Every different engine that the options allow and this device can run, fastest first."""
    store = EngineStore(bundle)
    built = store.find(precision=options.precision, backend=options.backend)
    wanted = [(record.backend, record.precision) for record in built if store.mismatch(record) is None]
    usable = {name for name, found in available().items() if found.usable}
    pairs = [pair for pair in dict.fromkeys(wanted) if pair[0] in usable]
    if not pairs:
        # Nothing was built: what an Engine makes of the options, or its explanation why not.
        return [Engine(bundle, backend=options.backend, precision=options.precision, threads=options.threads)]
    engines: list[Engine] = []
    for backend, precision in pairs:
        with contextlib.suppress(EngineMismatch):
            engine = Engine(bundle, backend=backend, precision=precision, threads=options.threads)
            if any(engine.info.engine_key == other.info.engine_key for other in engines):
                engine.close()
            else:
                engines.append(engine)
    return engines


class _Subject:
    """A callable to time. Keeps the times of its calls: `measure_interleaved` times every second one."""

    name: str

    def __init__(self) -> None:
        self._stages: list[tuple[float, ...]] = []

    def __call__(self) -> None:
        started = time.perf_counter()
        stages = self._frame()
        self._stages.append((time.perf_counter() - started, *stages))

    def _frame(self) -> tuple[float, ...]:
        raise NotImplementedError

    def _medians_ms(self, count: int) -> tuple[tuple[float, float, float], list[float]]:
        """(p50, p90, p99) of the timed frames, and the medians of their stages."""
        timed = np.array(self._stages[-2 * count :][1::2]) * 1e3
        p50, p90, p99 = np.percentile(timed[:, 0], (50, 90, 99))
        return (float(p50), float(p90), float(p99)), [median(column) for column in timed[:, 1:].T.tolist()]

    def row(self, count: int, ratios: tuple[float, float, float], footprint: Footprint | None) -> BenchmarkRow:
        raise NotImplementedError

    def footprint(self, bundle: Bundle, threads: int | None) -> Footprint | None:
        raise NotImplementedError


class _Baseline(_Subject):
    """The bundle's plain graph in FP32 with ONNX Runtime."""

    name = BASELINE

    def __init__(self, bundle: Bundle, frame: Array, threads: int | None) -> None:
        super().__init__()
        started = time.perf_counter()
        self._backend = open_backend("onnxruntime", bundle.read(PLAIN_MODEL), threads=threads)
        self._load_s = time.perf_counter() - started
        self._path = FramePath(self._backend, bundle.manifest)
        self._pixels = frame

    def _frame(self) -> tuple[float, ...]:
        self._path(self._pixels)
        return ()

    def row(self, count: int, ratios: tuple[float, float, float], footprint: Footprint | None) -> BenchmarkRow:
        info = self._backend.info
        percentiles, _ = self._medians_ms(count)
        return BenchmarkRow(
            BASELINE, "fp32", info.name, info.version, info.threads, None, *percentiles, *ratios, None, None, None,
            self._load_s, *_footprint_fields(footprint),
        )  # fmt: skip

    def footprint(self, bundle: Bundle, threads: int | None) -> Footprint | None:
        return measure(bundle.path, backend="onnxruntime", precision="fp32", threads=threads, plain=True)

    def close(self) -> None:
        self._backend.close()


class _EngineSubject(_Subject):
    """An Engine, as applications use it."""

    def __init__(self, engine: Engine, frame: Array) -> None:
        super().__init__()
        self._engine = engine
        self._pixels = frame
        self.name = f"{engine.info.precision} on {engine.info.backend}"

    def _frame(self) -> tuple[float, ...]:
        timing = self._engine.predict(self._pixels).timing
        return timing.prepare, timing.infer, timing.postprocess

    def row(self, count: int, ratios: tuple[float, float, float], footprint: Footprint | None) -> BenchmarkRow:
        info = self._engine.info
        percentiles, stages = self._medians_ms(count)
        return BenchmarkRow(
            self.name, info.precision, info.backend, info.runtime_version, info.threads, info.engine_key,
            *percentiles, *ratios, stages[0], stages[1], stages[2], info.load_s, *_footprint_fields(footprint),
        )  # fmt: skip

    def footprint(self, bundle: Bundle, threads: int | None) -> Footprint | None:
        info = self._engine.info
        return measure(bundle.path, backend=info.backend, precision=info.precision, threads=threads)


def _footprint_fields(footprint: Footprint | None) -> tuple[float | None, int | None]:
    return (None, None) if footprint is None else (footprint.start_s, footprint.rss_bytes)


def _show(terminal: Terminal, bundle: Bundle, rows: list[BenchmarkRow], rounds: int, frame: Array) -> None:
    numbers = ("p50 ms", "p90", "p99", "gain", "prepare", "infer", "post", "start s", "MB")
    height, width = frame.shape[:2]
    title = f"{bundle.name}: whole frames of {width}x{height}, {rounds} rounds in turns, {rows[0].threads} threads"
    result = table(title, "engine", *numbers, right=numbers)
    best = max(rows, key=lambda row: row.ratio)
    for row in rows:
        values: list[Any] = [row.p50_ms, row.p90_ms, row.p99_ms]
        cells = [f"{value:.2f}" for value in values] + [f"{row.ratio:.2f}×"]
        cells += [_number(value, "{:.2f}") for value in (row.prepare_ms, row.infer_ms, row.postprocess_ms)]
        cells += [_number(row.start_s, "{:.2f}"), _number(row.rss_bytes and row.rss_bytes / 1e6, "{:.0f}")]
        result.add_row(row.name, *cells, style="bold" if row is best else None)
    terminal.show(result)
    terminal.show(f"Device: {fingerprint().describe()}")
    terminal.show("gain: times faster than the first row, median over rounds. start, MB: of a process of its own.")


def _number(value: float | None, text: str) -> str:
    return "–" if value is None else text.format(value)
