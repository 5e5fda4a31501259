"""What `edge-mtl benchmark --batch N` times: N frames at once beside the same N frames one after the other.

Knows how a graph of one frame becomes one of N, and proves that the answers stay the same before anything is timed; knows
nothing about stores or bundles' engines.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from edge_mtl.backends import Backend, open_backend, spec_of
from edge_mtl.bench.targets import BatchTarget, Facts
from edge_mtl.bundle import Bundle
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.image.frames import letterbox, prepare
from edge_mtl.onnx_graph.batches import repeat_frames

__all__ = ["ALONE", "Graph", "batch_line_up", "difference"]

Array = np.ndarray
ALONE = ", one by one"
"""Ends the name of a row that runs the frames of a batch one after the other."""

_SAME: Mapping[str, float] = {"fp32": 1e-3}
_SAME_IN_FEWER_BITS = 0.05
"""Root of the mean square of the difference, in standard deviations of the answer: rounding in another order is allowed, in
8 or 16 bits more of it; frames that were mixed up are far above."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph of one frame and what runs it; `key` is that of the built engine, None for a graph of the bundle."""

    name: str
    backend: str
    precision: str
    model: bytes
    key: str | None = None


def batch_line_up(
    bundle: Bundle, frame: Array, batch: int, threads: int | None, graphs: Iterator[Graph]
) -> Iterator[BatchTarget]:
    """For each graph two subjects: the frames at once, and one after the other. Whoever takes them closes them.

    Args:
        frame: used where the bundle has no labelled frames.
    Raises:
        BackendUnavailable: a runtime whose plans are made for one frame, or the package onnx is missing.
        BuildError: the graph cannot be repeated.
        AccuracyError: at once the answers are others.
    """
    frames = list(islice(cycle([item.frame for item in islice(evaluation_frames(bundle), batch)] or [frame]), batch))
    for graph in graphs:
        if not spec_of(graph.backend).takes_graphs:
            raise BackendUnavailable(
                f"--batch {batch}: {graph.name} runs a plan, which was built for one frame at a time. "
                "Name another backend with --backend, or leave --batch away."
            )
        try:
            repeated = repeat_frames(graph.model, batch, name=graph.name)
        except BuildError as error:
            raise BuildError(f"--batch {batch} cannot be measured: {error}") from error
        alone, together = (_opened(bundle, frames, graph, model, threads, batch) for model in (graph.model, repeated))
        found, expected = together.outputs(), alone.outputs()
        for name, answer in expected.items():
            apart = difference(found[name], answer)
            most = _SAME.get(graph.precision, _SAME_IN_FEWER_BITS)
            if not apart <= most:
                alone.close()
                together.close()
                raise AccuracyError(
                    f"--batch {batch}: {graph.name} answers otherwise when frames come at once: {name} differs by {apart:.2g} "
                    f"of its spread, at most {most:g} was expected. It is not measured; leave --batch away."
                )
        yield together
        yield alone


def difference(found: Array, expected: Array) -> float:
    """Root of the mean square of the difference, in standard deviations of what was expected."""
    spread = float(np.std(expected.astype(np.float64))) or 1.0
    return float(np.sqrt(np.mean((found.astype(np.float64) - expected.astype(np.float64)) ** 2))) / spread


def _opened(bundle: Bundle, frames: list[Array], graph: Graph, model: bytes, threads: int | None, batch: int) -> BatchTarget:
    started = time.perf_counter()
    backend = open_backend(graph.backend, model, threads=threads, precision=graph.precision)
    facts = Facts(backend.info, time.perf_counter() - started, graph.key, len(model))
    prepared = [_prepared(backend, frame) for frame in frames]
    at_once = model is not graph.model
    return BatchTarget(
        graph.name if at_once else f"{graph.name}{ALONE}",
        bundle,
        backend,
        frames[0],
        feeds=[np.concatenate(prepared)] if at_once else prepared,
        batch=batch,
        facts=facts,
    )


def _prepared(backend: Backend, frame: Array) -> Array:
    """One frame of network size as the graph takes it, (1, ...)."""
    spec = next(iter(backend.inputs.values()))
    array = np.zeros((1, *spec.shape[1:]), spec.dtype)
    box = letterbox((frame.shape[0], frame.shape[1]), (frame.shape[0], frame.shape[1]))
    prepare(frame, box, array[0])
    return array
