"""Which engines `edge-mtl benchmark` measures: the plain FP32 graph of each bundle, and every engine of its store that fits.

Knows bundles, stores and what was asked for; measures nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_mtl.backends import open_backend
from edge_mtl.build.evaluation import evaluation_frames
from edge_mtl.build.store.engines import EngineStore
from edge_mtl.build.store.records import EngineRecord
from edge_mtl.bundle import DEPLOY_MODEL, PLAIN_MODEL, Bundle, find
from edge_mtl.choice import AUTO
from edge_mtl.commands.subjects import BatchSubject, EngineSubject, Facts, GraphSubject, Subject
from edge_mtl.engine import Engine

__all__ = ["BASELINE", "Wanted", "find_bundles", "first_frame", "line_up"]

Array = np.ndarray
BASELINE = "fp32 on onnxruntime, plain"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure.

    Attributes:
        bundles: folders; by default what `edge_mtl.bundle.find` finds.
        backends, precisions: names, or "auto" for every engine that was built.
        batch: frames per call.
    """

    bundles: tuple[Path, ...] = ()
    backends: tuple[str, ...] = (AUTO,)
    precisions: tuple[str, ...] = (AUTO,)
    threads: int | None = None
    batch: int = 1


def find_bundles(wanted: Wanted) -> tuple[Bundle, ...]:
    """The bundles, opened. Raises BundleError."""
    return tuple(find(path) for path in wanted.bundles) or (find(None),)


def line_up(bundles: Sequence[Bundle], wanted: Wanted, stack: contextlib.ExitStack) -> list[Subject]:
    """Open all of them; the first is the baseline. `stack` closes them.

    Raises:
        BundleError, EngineMismatch, BackendUnavailable: what was asked for is not there.
    """
    subjects: list[Subject] = []
    labels = [bundle.name for bundle in bundles]
    for bundle, label in zip(bundles, labels, strict=True):
        if labels.count(label) > 1:
            label = f"{label} ({bundle.path})"
        prefix = f"{label}: " if len(bundles) > 1 else ""
        frame = first_frame(bundle)
        for subject in (_plain(bundle, frame, wanted, prefix), *_engines(bundle, frame, wanted, prefix)):
            stack.callback(subject.close)
            subjects.append(subject)
    return subjects


def first_frame(bundle: Bundle) -> Array:
    """(H, W, 3) uint8 RGB of network size: the first labelled frame, or grey where there is none."""
    found = next((item.frame for item in evaluation_frames(bundle)), None)
    return np.full((bundle.manifest.input.height, bundle.manifest.input.width, 3), 128, np.uint8) if found is None else found


def _plain(bundle: Bundle, frame: Array, wanted: Wanted, prefix: str) -> Subject:
    """The baseline: model.onnx in FP32 with ONNX Runtime, as anyone can run it."""
    model = bundle.read(PLAIN_MODEL)
    started = time.perf_counter()
    backend = open_backend("onnxruntime", model, threads=wanted.threads)
    load_s = time.perf_counter() - started
    name = f"{prefix}{BASELINE}"
    if wanted.batch != 1:
        facts = Facts(backend.info, load_s, None, len(model))
        return BatchSubject(name, bundle, backend, frame, batch=wanted.batch, facts=facts)
    return GraphSubject(name, bundle, backend, frame, load_s=load_s, size_bytes=len(model))


def _engines(bundle: Bundle, frame: Array, wanted: Wanted, prefix: str) -> Iterator[Subject]:
    """Every engine that was asked for and this device can run, fastest first; without any, what an Engine runs then."""
    store = EngineStore(bundle)
    seen: set[str] = set()
    for backend in wanted.backends:
        for precision in wanted.precisions:
            found = store.find(precision=precision, backend=backend)
            usable = [record for record in found if store.mismatch(record) is None and record.backend in store.runtimes]
            if not usable:
                subject = _by_engine(bundle, frame, wanted, prefix, backend, precision)
                if subject.name not in seen:
                    seen.add(subject.name)
                    yield subject
                else:
                    subject.close()
            for record in usable:  # of equals, the fastest comes first
                name = f"{prefix}{record.precision} on {record.backend}"
                if name not in seen:
                    seen.add(name)
                    yield _built(bundle, frame, wanted, name, store, record)


def _by_engine(bundle: Bundle, frame: Array, wanted: Wanted, prefix: str, backend: str, precision: str) -> Subject:
    engine = Engine(bundle, backend=backend, precision=precision, threads=wanted.threads)
    graph = DEPLOY_MODEL if engine.info.placement == "host" else PLAIN_MODEL
    return EngineSubject(
        f"{prefix}{engine.info.precision} on {engine.info.backend}",
        bundle,
        engine,
        frame,
        size_bytes=bundle.manifest.files[graph].size,
    )


def _built(bundle: Bundle, frame: Array, wanted: Wanted, name: str, store: EngineStore, record: EngineRecord) -> Subject:
    preferred = store.select(precision=record.precision, backend=record.backend).record
    if wanted.batch == 1 and preferred is not None and preferred.key == record.key:
        engine = Engine(bundle, backend=record.backend, precision=record.precision, threads=wanted.threads)
        return EngineSubject(name, bundle, engine, frame, size_bytes=record.size)
    # An Engine would take a faster one, or takes one frame at a time: this one is timed without it.
    started = time.perf_counter()
    opened = open_backend(
        record.backend,
        store.load(record),
        threads=wanted.threads,
        precision=record.precision,
        compiled=store.compiled.load(record)[0],
    )
    load_s = time.perf_counter() - started
    if wanted.batch != 1:
        facts = Facts(opened.info, load_s, record.key, record.size)
        return BatchSubject(name, bundle, opened, frame, batch=wanted.batch, facts=facts)
    return GraphSubject(name, bundle, opened, frame, load_s=load_s, key=record.key, size_bytes=record.size)
