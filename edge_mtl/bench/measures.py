"""What a benchmark measures of every subject beside the latency of a frame; each adds its figures to the rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from edge_mtl.bench.energy import Integrator, counter_of, measure_energy
from edge_mtl.bench.fixed_rate import measure_fixed_rate
from edge_mtl.bench.footprint import Footprint, typical
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.report import BenchmarkRow, Memory, StartUp
from edge_mtl.bench.sensors import Unavailable, energy_sources
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.sensors.sources import EnergySource
from edge_mtl.bench.statistics import median_interval
from edge_mtl.bench.targets import BenchmarkTarget
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.evaluation.metrics import TaskMetrics

__all__ = ["Step", "add_accuracy", "add_energy", "add_fixed_rate", "add_footprints", "add_streams"]

Step = Callable[[str, int, int], None]
"""Reports progress: (what is being done, how many are done, of how many); 0 of 0 where nothing can be counted."""

_RECORDING_S, _FEWEST_FRAMES, _MOST_FRAMES = 0.5, 6, 64
_STREAM_ROUNDS = 6


def add_streams(rows: dict[str, BenchmarkRow], subjects: Sequence[BenchmarkTarget], step: Step) -> None:
    """Frames per second of `stream()`, interleaved, of those that have it."""
    able = [subject for subject in subjects if subject.can_stream]
    if not able:
        return
    slowest_s = max(rows[subject.name].p50_ms for subject in able) / 1e3
    frames = int(min(max(_RECORDING_S / slowest_s, _FEWEST_FRAMES), _MOST_FRAMES))
    turns = run_interleaved(
        {subject.name: partial(subject.stream, frames) for subject in able},
        rounds=_STREAM_ROUNDS,
        warm_up_calls=1,
        progress=lambda done, total: step("throughput of stream()", done, total),
    )
    for name, found in turns.items():
        rows[name] = replace(rows[name], stream_fps=median_interval([frames / seconds for seconds in found.seconds]))


def add_accuracy(
    rows: dict[str, BenchmarkRow], subjects: Sequence[BenchmarkTarget], step: Step, unavailable: list[dict[str, str]]
) -> None:
    """Metrics of each on its bundle's labelled frames."""
    for number, subject in enumerate(subjects):
        bundle = subject.bundle
        metrics, frames = TaskMetrics(bundle.manifest.tasks), 0
        for item in evaluation_frames(bundle):
            if item.targets:
                metrics.update(subject.results(item.frame, item.intrinsics), item.targets)
                frames += 1
        step("accuracy on labelled frames", number + 1, len(subjects))
        if frames:
            found = {name: float(value) for name, value in metrics.compute().items() if np.isfinite(value)}
            rows[subject.name] = replace(rows[subject.name], accuracy={**found, "frames": frames})
        else:
            unavailable.append({"name": f"accuracy of {subject.name}", "reason": "the bundle has no labelled frames"})


def add_fixed_rate(
    rows: dict[str, BenchmarkRow], subjects: Sequence[BenchmarkTarget], step: Step, *, rate_hz: float, seconds: float
) -> None:
    """Answers to a camera that waits for nobody."""
    for subject in subjects:
        paced = measure_fixed_rate(
            subject,
            rate_hz=rate_hz,
            duration_s=seconds,
            progress=lambda done, total: step(f"a camera of {rate_hz:g} Hz", done, total),
        )
        rows[subject.name] = replace(rows[subject.name], paced=paced)


def add_energy(
    rows: dict[str, BenchmarkRow],
    subjects: Sequence[BenchmarkTarget],
    step: Step,
    card: Nvml | Unavailable,
    unavailable: list[dict[str, str]],
) -> None:
    """Joules per frame by every sensor that is here."""
    sources, missing = energy_sources(gpu_found=card)
    unavailable += [{"name": f"energy from {item.name}", "reason": item.reason} for item in missing]
    if not sources:
        return
    with contextlib.ExitStack() as stack:
        counters: list[EnergySource] = []
        try:
            for source in sources:
                counter = counter_of(source)
                counters.append(stack.enter_context(counter) if isinstance(counter, Integrator) else counter)
            found = measure_energy(
                {subject.name: subject for subject in subjects},
                counters,
                frames_per_call=subjects[0].batch,
                progress=lambda done, total: step("energy per frame, in blocks", done, total),
            )
        except OSError as exc:
            unavailable.append({"name": "energy", "reason": f"a sensor failed while it was read: {exc}"})
            return
    for name, energy in found.items():
        rows[name] = replace(rows[name], energy=energy)


def add_footprints(
    rows: dict[str, BenchmarkRow],
    subjects: Sequence[BenchmarkTarget],
    step: Step,
    unavailable: list[dict[str, str]],
    *,
    processes: int,
) -> None:
    """Start-up and memory, each in so many processes of its own, one subject after the other; medians."""
    found: dict[str, list[Footprint]] = {}
    left = list(subjects)
    for turn in range(processes):
        for index, subject in enumerate(tuple(left)):
            step("memory and start-up, in processes of their own", turn * len(subjects) + index, processes * len(subjects))
            one = subject.footprint()
            if isinstance(one, Footprint):
                found.setdefault(subject.name, []).append(one)
                continue
            left.remove(subject)
            found.pop(subject.name, None)
            if one is not None:
                unavailable.append({"name": f"{one.name} of {subject.name}", "reason": one.reason})
    for name, several in found.items():
        one = typical(several)
        above = max(0, one.rss_bytes - one.empty_rss_bytes)
        rows[name] = replace(
            rows[name],
            start_up=StartUp(one.start_s, one.load_s, one.first_s),
            memory=Memory(one.rss_bytes, above, one.device_bytes),
        )
