"""`edge-mtl benchmark`: every engine of this device and the plain FP32 graph, whole frames, in turns.

Knows what is compared and how it is shown; clocks and fairness are in edge_mtl.bench.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from edge_mtl.backends import open_backend
from edge_mtl.bench.latency import measure_interleaved
from edge_mtl.build.evaluation import evaluation_frames
from edge_mtl.build.store.engines import EngineStore
from edge_mtl.bundle import PLAIN_MODEL, Bundle, find
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.subjects import BenchmarkRow, EngineSubject, GraphSubject, Subject
from edge_mtl.commands.terminal import Terminal, table
from edge_mtl.device import fingerprint
from edge_mtl.engine import Engine

__all__ = ["BASELINE", "compare", "run"]

Array = np.ndarray
BASELINE = "fp32 on onnxruntime, plain"


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
        subjects: list[Subject] = [_plain(bundle, frame, options.threads)]
        stack.callback(subjects[0].close)
        for subject in _engines(bundle, options, frame):
            stack.callback(subject.close)
            subjects.append(subject)
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
            rows.append(subject.row(latency.count, ratios))
    _show(terminal, bundle, rows, rounds, frame)
    return rows


def _plain(bundle: Bundle, frame: Array, threads: int | None) -> GraphSubject:
    """The baseline: model.onnx in FP32 with ONNX Runtime, as anyone can run it."""
    started = time.perf_counter()
    backend = open_backend("onnxruntime", bundle.read(PLAIN_MODEL), threads=threads)
    return GraphSubject(BASELINE, bundle, backend, frame, load_s=time.perf_counter() - started)


def _engines(bundle: Bundle, options: EngineOptions, frame: Array) -> Iterator[Subject]:
    """Every engine that the options allow and this device can run, fastest first; without any, what an Engine runs then."""
    store = EngineStore(bundle)
    found = store.find(precision=options.precision, backend=options.backend)
    usable = [record for record in found if store.mismatch(record) is None and record.backend in store.runtimes]
    names = {f"{record.precision} on {record.backend}": record for record in reversed(usable)}  # of equals, the fastest
    if not names:
        engine = Engine(bundle, backend=options.backend, precision=options.precision, threads=options.threads)
        yield EngineSubject(f"{engine.info.precision} on {engine.info.backend}", bundle, engine, frame)
    for name, record in reversed(names.items()):
        preferred = store.select(precision=record.precision, backend=record.backend).record
        if preferred is not None and preferred.key == record.key:
            engine = Engine(bundle, backend=record.backend, precision=record.precision, threads=options.threads)
            yield EngineSubject(name, bundle, engine, frame)
        else:  # an Engine would take a faster one; this one is timed without it
            started = time.perf_counter()
            backend = open_backend(
                record.backend,
                store.load(record),
                threads=options.threads,
                precision=record.precision,
                compiled=store.compiled.load(record)[0],
            )
            yield GraphSubject(name, bundle, backend, frame, load_s=time.perf_counter() - started, key=record.key)


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
