"""Time, memory, size and energy of one engine of three tasks beside three engines of one task each, as rows of plain values.

Knows graphs, engines and clocks; knows nothing about how the networks were made. The script is multitask_saving.py.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from kept_code import compiled
from multitask_graphs import Exported, runtimes
from resident_memory import ResidentMemory, resident_memory

from edge_mtl.backends import open_backend
from edge_mtl.bench.energy import Integrator, counter_of, measure_energy
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.sensors import energy_sources
from edge_mtl.bench.statistics import distribution, ratio_interval
from edge_mtl.bundle import Bundle
from edge_mtl.errors import BackendUnavailable
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.manifest import Manifest
from edge_mtl.tasks import NYU_TASKS, TASK_NAMES

__all__ = ["measure"]

Array = np.ndarray
Step = Callable[[str, int, int], None]

_BLOCKS = 5
"""Blocks of frames that an energy figure is the median of."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How an engine computes; one row of the results."""

    network: str
    precision: str
    backend: str

    @property
    def name(self) -> str:
        return f"{self.network}, {self.precision} on {self.backend}"


def measure(
    networks: Mapping[str, Sequence[Exported]],
    bundle: Bundle,
    *,
    precisions: Sequence[str],
    threads: int,
    rounds: int,
    duration_s: float,
    repeats: int,
    energy_s: float,
    step: Step,
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row per network, precision and runtime, and what could not be measured and why.

    Args:
        networks: by name, the shared engine and the three single ones, as in `ENGINES`.
        rounds, duration_s: whichever is over first ends the timing.
        repeats: processes per memory figure; 0 leaves memory out.
        energy_s: seconds per energy figure; 0 leaves energy out.
    """
    frame = next(evaluation_frames(bundle)).frame
    left_out: list[str] = []
    calls: dict[str, Callable[[], tuple[float, ...]]] = {}
    kinds: list[Kind] = []
    with contextlib.ExitStack() as stack:
        wanted = [Kind(name, p, b) for name in networks for p in precisions for b in runtimes()]
        for number, kind in enumerate(wanted):
            step("opening engines", number, len(wanted))
            try:
                paths = [_open(one, kind, bundle, threads, stack) for one in networks[kind.network]]
            except BackendUnavailable as error:
                left_out.append(f"{kind.name}: {error}")
                continue
            kinds.append(kind)
            calls[f"shared {kind.name}"] = partial(_answer, paths[:1], frame)
            calls[f"single {kind.name}"] = partial(_answer, paths[1:], frame)
        turns = (
            run_interleaved(calls, rounds=rounds, duration_s=duration_s, progress=partial(step, "time, interleaved"))
            if calls
            else {}
        )
        energy = _energy(calls, energy_s, left_out, step) if energy_s else {}
        rows: list[dict[str, Any]] = []
        for kind in kinds:
            shared, single = turns[f"shared {kind.name}"], turns[f"single {kind.name}"]
            exported = networks[kind.network]
            row = {
                "network": kind.network,
                "precision": kind.precision,
                "backend": kind.backend,
                "time": _time_row(shared.seconds, single.seconds, single.answers),
                "size": _size_row(exported, kind),
                "energy": _energy_row(energy.get(f"shared {kind.name}", ()), energy.get(f"single {kind.name}", ())),
            }
            if repeats:
                step("memory, in processes of its own", len(rows), len(kinds))
                row["memory"] = _memory_row(exported, kind, threads=threads, repeats=repeats)
            rows.append(row)
    return rows, left_out


def _open(one: Exported, kind: Kind, bundle: Bundle, threads: int, stack: contextlib.ExitStack) -> InferencePipeline:
    graph = one.graphs[kind.precision, kind.backend]
    code = compiled(graph, kind.backend, kind.precision)
    backend = open_backend(kind.backend, graph.read_bytes(), threads=threads, precision=kind.precision, compiled=code)
    stack.callback(backend.close)
    manifest = bundle.manifest
    described = Manifest(
        name=kind.network,
        revision=1,
        tasks={task: NYU_TASKS[task] for task in one.tasks},
        input=manifest.input,
        canonical_intrinsics=manifest.canonical_intrinsics,
        files={},
    )
    return InferencePipeline(backend, described)


def _answer(paths: Sequence[InferencePipeline], frame: Array) -> tuple[float, ...]:
    """One frame through all engines, one after the other; the seconds each took."""
    seconds = []
    for path in paths:
        begin = time.perf_counter()
        path(frame)
        seconds.append(time.perf_counter() - begin)
    return tuple(seconds)


def _time_row(shared: Sequence[float], single: Sequence[float], each: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    share = ratio_interval(shared, single)  # "how many times faster" with the roles exchanged: shared / single
    return {
        "rounds": len(shared),
        "shared_ms": distribution(shared).p50_ms,
        "single_ms": distribution(single).p50_ms,
        "each_ms": {task: distribution([one[n] for one in each]).p50_ms for n, task in enumerate(TASK_NAMES)},
        "share": share.value,
        "share_sure": [share.low, share.high],
    }


def _size_row(exported: Sequence[Exported], kind: Kind) -> dict[str, Any]:
    sizes = [one.graphs[kind.precision, kind.backend].stat().st_size for one in exported]
    return {
        "shared_bytes": sizes[0],
        "single_bytes": sum(sizes[1:]),
        "share": sizes[0] / sum(sizes[1:]),
        "shared_parameters": exported[0].parameters,
        "single_parameters": sum(one.parameters for one in exported[1:]),
    }


def _memory_row(exported: Sequence[Exported], kind: Kind, *, threads: int, repeats: int) -> dict[str, Any]:
    """Both processes load what an engine loads: where the runtime keeps compiled code, that."""
    paths = [one.graphs[kind.precision, kind.backend] for one in exported]
    ask = partial(resident_memory, backend=kind.backend, precision=kind.precision, threads=threads, repeats=repeats)
    shared, single = ask(paths[:1]), ask(paths[1:])
    return {
        "shared": _bytes_of(shared),
        "single": _bytes_of(single),
        "share": shared.loaded / single.loaded,
        "graphs_share": shared.graphs / single.graphs,
    }


def _bytes_of(memory: ResidentMemory) -> dict[str, int]:
    return {
        "above_empty_bytes": memory.loaded,
        "runtime_bytes": memory.runtime,
        "graphs_bytes": memory.graphs,
        "peak_bytes": memory.peak,
    }


def _energy(
    calls: Mapping[str, Callable[[], object]], seconds: float, left_out: list[str], step: Step
) -> dict[str, list[dict[str, Any]]]:
    """Joules per frame of every call by sensor, in interleaved blocks; empty where nothing tells."""
    sources, missing = energy_sources()
    left_out += [f"energy from {source.name}: {source.reason}" for source in missing]
    if not sources:
        return {}
    with contextlib.ExitStack() as stack:
        counters: list[Any] = []
        for source in sources:
            counter = counter_of(source)
            counters.append(stack.enter_context(counter) if isinstance(counter, Integrator) else counter)
        found = measure_energy(
            calls, counters, block_s=seconds / _BLOCKS, blocks=_BLOCKS, progress=partial(step, "energy, in blocks")
        )
    return {name: [asdict(row) for row in rows] for name, rows in found.items()}


def _energy_row(shared: Sequence[Mapping[str, Any]], single: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "source": one["source"],
            "covers": one["covers"],
            "shared_j": one["joules"]["value"],
            "single_j": three["joules"]["value"],
            "share": one["joules"]["value"] / three["joules"]["value"],
        }
        for one, three in zip(shared, single, strict=True)
    ]
