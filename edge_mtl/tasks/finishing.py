"""From a graph's outputs to the results of all tasks of a bundle: the only home of post-processing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edge_mtl.errors import InferenceError
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import Letterbox
from edge_mtl.image.memory import out_of_memory, require_memory
from edge_mtl.tasks import DenseKind, Placement, Result, Specs, TaskSpec, kind_of
from edge_mtl.tasks.areas import CameraChange, MapArea, OutputSize
from edge_mtl.tasks.asked import LazyResults
from edge_mtl.tasks.sharing_out import SecondThread

__all__ = ["Answer", "finish", "host_outputs"]

Array = np.ndarray

_PEAK_BYTES = 5
"""Bytes that finishing takes at its peak for a number of a map, twice that where a pixel has several; measured on 1.5 million
pixels: 3.8 for classes, 4.9 for depth, 9.6 for normals."""
_SMALLER = 'Reduce the frame, ask for fewer tasks, or take maps of the network\'s size: Engine(output_size="network").'


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a graph answers for one frame.

    Attributes:
        results: by task, in the bundle's order.
        bad_values: places where the network's answer cannot be used (NaN, Inf, a depth that is not positive).
        map_size: (height, width) of the pixels that results are in, maps or not; None where nobody says.
    """

    results: Mapping[str, Result]
    bad_values: int = 0
    map_size: tuple[int, int] | None = None

    def __getitem__(self, task: str) -> Result:
        return self.results[task]


def finish(
    specs: Specs,
    outputs: Mapping[str, Array],
    box: Letterbox,
    *,
    placement: Placement,
    output_size: OutputSize,
    change: CameraChange | None,
    pool: BufferPool,
    lazily: bool = False,
    second: SecondThread | None = None,
) -> Answer:
    """Turn the outputs of a graph of either placement into results.

    Args:
        specs: the tasks that are wanted; outputs of others are left alone.
        outputs: by name, batch 1; the arrays may become part of the results.
        box: how the frame was letterboxed.
        output_size: "frame" resamples the content to the frame's size, "network" keeps the network's with unknown bars,
            "content" the network's without them.
        change: from `camera_change`.
        pool: where results and working memory come from.
        lazily: each result is finished when it is first read: `LazyResults`, which hold the outputs until then.
        second: a thread that helps with large maps.
    Raises:
        FrameError: a map does not fit into the memory that is left; lazily, when it is read.
        InferenceError: an output is missing.
    """
    size = box.network
    missing = [name for spec in specs.values() for name in kind_of(spec).outputs(spec, size, placement) if name not in outputs]
    if missing:
        raise InferenceError(f"The graph gives no {', '.join(missing)}; found {', '.join(outputs)}. Export the bundle again.")
    area = MapArea.of(box, output_size, placement)
    if lazily:
        return Answer(_lazy_results(specs, outputs, size, area, change, pool), map_size=area.whole)

    def work(spec: TaskSpec) -> tuple[Any, int]:
        return _finished(spec, outputs, area, change, pool)

    done = map(work, specs.values()) if second is None else second.map(work, specs.values(), pixels=math.prod(area.whole))
    results: dict[str, Result] = {}
    bad = 0
    for name, (result, flaws) in zip(specs, done, strict=True):
        results[name] = result
        bad += flaws
    return Answer(results, bad, area.whole)


def _lazy_results(
    specs: Specs,
    outputs: Mapping[str, Array],
    size: tuple[int, int],
    area: MapArea,
    change: CameraChange | None,
    pool: BufferPool,
) -> LazyResults:
    """Results that hold their own outputs only, so that finishing one frees what it was made of."""
    finishers = {}
    for name, spec in specs.items():
        own = {output: outputs[output] for output in kind_of(spec).outputs(spec, size, area.placement)}
        finishers[name] = partial(_finished, spec, own, area, change, pool)
    return LazyResults(specs, finishers, area.whole)


def _finished(
    spec: TaskSpec, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
) -> tuple[Any, int]:
    """`Kind.finish`, unless its maps do not fit into the memory that is left."""
    kind, (height, width) = kind_of(spec), area.whole
    what = f"What {spec.name} answers"
    if isinstance(kind, DenseKind):
        what = f"The {height}x{width} map of {spec.name}"
        numbers = math.prod(kind.finished_shape(spec, area.whole))
        require_memory(numbers * (_PEAK_BYTES if numbers == height * width else 2 * _PEAK_BYTES), what, _SMALLER)
    with out_of_memory(what, _SMALLER):
        return kind.finish(spec, outputs, area, change, pool)


def host_outputs(specs: Specs, size: tuple[int, int]) -> dict[str, tuple[str, ...]]:
    """By task, the names of its outputs in a graph that leaves post-processing to the host."""
    return {name: tuple(kind_of(spec).outputs(spec, size, "host")) for name, spec in specs.items()}
