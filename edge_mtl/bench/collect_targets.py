"""Which engines `edge-mtl benchmark` measures: the plain FP32 graph of each bundle, and every engine of its store that fits.

Knows bundles, stores and what was asked for; measures nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.backends import open_backend, spec_of
from edge_mtl.backends.reference import REFERENCE_RUNTIME
from edge_mtl.backends.selection import AUTO, parse_device, resolve_gpu
from edge_mtl.bench.batches import ALONE, Graph, batch_line_up
from edge_mtl.bench.targets import BenchmarkTarget, EngineTarget, GraphTarget
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle, find
from edge_mtl.engine import Engine
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.resolve import ResolvedEngine, resolve_engine
from edge_mtl.engine_store.sidecars import EngineRecord
from edge_mtl.evaluation.labelled_frames import evaluation_frames

__all__ = ["BASELINE", "TargetFilter", "collect_targets", "find_bundles", "first_frame", "planned"]

Array = np.ndarray
BASELINE = f"fp32 on {REFERENCE_RUNTIME}, plain"


@dataclass(frozen=True, slots=True)
class TargetFilter:
    """What to measure.

    Attributes:
        bundles: folders; by default what `edge_mtl.bundle.find` finds.
        backends, precisions: names, or "auto" for every engine that was built.
        batch: frames per call.
        device: "auto", "cpu", "cuda" or "cuda:1": only what runs there, besides the baseline, which runs on the processor.
    """

    bundles: tuple[Path, ...] = ()
    backends: tuple[str, ...] = (AUTO,)
    precisions: tuple[str, ...] = (AUTO,)
    threads: int | None = None
    batch: int = 1
    device: str = AUTO


def find_bundles(targets: TargetFilter) -> tuple[Bundle, ...]:
    """The bundles, opened. Raises BundleError."""
    return tuple(find(path) for path in targets.bundles) or (find(None),)


def planned(bundles: Sequence[Bundle], targets: TargetFilter) -> dict[str, Any]:
    """What `collect_targets` is going to open, before anything is loaded: "baseline", "frame_size", "rows" ("name", "batch").

    As in the benchmark's JSON. Raises as `collect_targets` does.
    """
    names: list[str] = []
    kind, index = parse_device(targets.device)
    for bundle, prefix in zip(bundles, _prefixes(bundles), strict=True):
        names.append(f"{prefix}{BASELINE}")
        for backend, precision, record in _records(EngineStore(bundle, gpu=resolve_gpu(index)), targets):
            found: ResolvedEngine | EngineRecord = record or resolve_engine(
                bundle, backend=backend, precision=precision, threads=targets.threads, kind=kind, device=index
            )
            names.append(f"{prefix}{found.precision} on {found.backend}")
    names = [each for name in dict.fromkeys(names) for each in ((name,) if targets.batch == 1 else (name, f"{name}{ALONE}"))]
    size = bundles[0].manifest.input
    return {
        "baseline": names[0],
        "frame_size": [size.height, size.width],
        "rows": [{"name": name, "batch": targets.batch} for name in names],
    }


def collect_targets(bundles: Sequence[Bundle], targets: TargetFilter, stack: contextlib.ExitStack) -> list[BenchmarkTarget]:
    """Open all of them; the first is the baseline. `stack` closes them.

    Raises:
        BundleError, EngineMismatch, BackendUnavailable: what was asked for is not there.
    """
    subjects: list[BenchmarkTarget] = []
    for bundle, prefix in zip(bundles, _prefixes(bundles), strict=True):
        frame = first_frame(bundle)
        if targets.batch != 1:
            for several in batch_line_up(bundle, frame, targets.batch, targets.threads, _graphs(bundle, targets, prefix)):
                stack.callback(several.close)
                subjects.append(several)
            continue
        for subject in (_plain(bundle, frame, targets, prefix), *_engines(bundle, frame, targets, prefix)):
            stack.callback(subject.close)
            subjects.append(subject)
    return subjects


def _prefixes(bundles: Sequence[Bundle]) -> list[str]:
    """What names of rows begin with: the bundle's name where there are several, its folder where names are alike."""
    if len(bundles) == 1:
        return [""]
    names = [bundle.name for bundle in bundles]
    alike = {name for name in names if names.count(name) > 1}
    return [f"{item.name} ({item.path}): " if item.name in alike else f"{item.name}: " for item in bundles]


def first_frame(bundle: Bundle) -> Array:
    """(H, W, 3) uint8 RGB of network size: the first labelled frame, or grey where there is none."""
    found = next((item.frame for item in evaluation_frames(bundle)), None)
    return np.full((bundle.manifest.input.height, bundle.manifest.input.width, 3), 128, np.uint8) if found is None else found


def _plain(bundle: Bundle, frame: Array, targets: TargetFilter, prefix: str) -> BenchmarkTarget:
    """The baseline: model.onnx in FP32 with ONNX Runtime, as anyone can run it."""
    model = bundle.read(REFERENCE_ONNX)
    started = time.perf_counter()
    backend = open_backend(REFERENCE_RUNTIME, model, threads=targets.threads)
    load_s = time.perf_counter() - started
    return GraphTarget(f"{prefix}{BASELINE}", bundle, backend, frame, load_s=load_s, size_bytes=len(model))


def _engines(bundle: Bundle, frame: Array, targets: TargetFilter, prefix: str) -> Iterator[BenchmarkTarget]:
    """Every engine that was asked for and this device can run, fastest first; without any, what an Engine runs then."""
    store = EngineStore(bundle, gpu=resolve_gpu(parse_device(targets.device)[1]))
    seen: set[str] = set()
    for backend, precision, record in _records(store, targets):
        if record is None:
            subject = _by_engine(bundle, frame, targets, prefix, backend, precision)
            if subject.name not in seen:
                seen.add(subject.name)
                yield subject
            else:
                subject.close()
            continue
        name = f"{prefix}{record.precision} on {record.backend}"
        if name not in seen:
            seen.add(name)
            yield _built(bundle, frame, targets, name, store, record)


def _records(store: EngineStore, targets: TargetFilter) -> Iterator[tuple[str, str, EngineRecord | None]]:
    """By backend and precision that were asked for, engines that fit this device, fastest first; None where there are none."""
    kind, _ = parse_device(targets.device)
    for backend in targets.backends:
        for precision in targets.precisions:
            found = [
                record
                for record in store.find(precision=precision, backend=backend)
                if kind in (AUTO, spec_of(record.backend).device)
            ]
            usable = [record for record in found if store.mismatch(record) is None and record.backend in store.runtimes]
            for record in usable or (None,):
                yield backend, precision, record


def _graphs(bundle: Bundle, targets: TargetFilter, prefix: str) -> Iterator[Graph]:
    """The same as graphs of one frame, the baseline first."""
    yield Graph(f"{prefix}{BASELINE}", REFERENCE_RUNTIME, "fp32", bundle.read(REFERENCE_ONNX))
    store = EngineStore(bundle, gpu=resolve_gpu(parse_device(targets.device)[1]))
    seen: set[str] = set()
    for backend, precision, record in _records(store, targets):
        if record is None:
            kind, index = parse_device(targets.device)
            chosen = resolve_engine(
                bundle, backend=backend, precision=precision, threads=targets.threads, kind=kind, device=index
            )
            graph = Graph(f"{prefix}{chosen.precision} on {chosen.backend}", chosen.backend, chosen.precision, chosen.model)
        else:
            name = f"{prefix}{record.precision} on {record.backend}"
            graph = Graph(name, record.backend, record.precision, store.load(record), record.key)
        if graph.name not in seen:
            seen.add(graph.name)
            yield graph


def _by_engine(
    bundle: Bundle, frame: Array, targets: TargetFilter, prefix: str, backend: str, precision: str
) -> BenchmarkTarget:
    engine = Engine(bundle, backend=backend, precision=precision, device=targets.device, threads=targets.threads)
    graph = OPTIMIZED_ONNX if engine.info.placement == "host" else REFERENCE_ONNX
    return EngineTarget(
        f"{prefix}{engine.info.precision} on {engine.info.backend}",
        bundle,
        engine,
        frame,
        size_bytes=bundle.entry(graph).size,
    )


def _built(
    bundle: Bundle, frame: Array, targets: TargetFilter, name: str, store: EngineStore, record: EngineRecord
) -> BenchmarkTarget:
    preferred = store.select(precision=record.precision, backend=record.backend).record
    if preferred is not None and preferred.key == record.key:
        engine = Engine(
            bundle, backend=record.backend, precision=record.precision, device=targets.device, threads=targets.threads
        )
        return EngineTarget(name, bundle, engine, frame, size_bytes=record.size)
    # An Engine would take a faster one: this one is timed without it.
    started = time.perf_counter()
    opened = open_backend(
        record.backend,
        store.load(record),
        threads=targets.threads,
        precision=record.precision,
        compiled=store.compiled.load(record)[0],
        device=parse_device(targets.device)[1],
    )
    load_s = time.perf_counter() - started
    return GraphTarget(name, bundle, opened, frame, load_s=load_s, key=record.key, size_bytes=record.size)
