"""`edge-mtl benchmark`: every engine of this device and the plain FP32 graph, whole frames, interleaved.

Knows the order of the measurements; what is compared, clocks and fairness are in edge_mtl.bench, and how it is shown is
in benchmark_table and edge_mtl.bench.card.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_mtl.bench.collect_targets import BASELINE, TargetFilter, collect_targets, find_bundles, planned
from edge_mtl.bench.conditions import Conditions
from edge_mtl.bench.interleaved import InterleavedTimes, run_interleaved
from edge_mtl.bench.measures import add_accuracy, add_energy, add_fixed_rate, add_footprints, add_streams
from edge_mtl.bench.report import STAGES, BenchmarkReport, BenchmarkRow, differences
from edge_mtl.bench.sensors import Unavailable, gpu
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.statistics import Distribution, distribution, ratio_interval, verdict
from edge_mtl.bench.targets import BenchmarkTarget
from edge_mtl.bundle import Bundle
from edge_mtl.commands.benchmark_table import show
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import Terminal
from edge_mtl.prediction import Timing

__all__ = ["BASELINE", "BenchmarkConfig", "OutputPaths", "compare", "run"]

_WARM_UP_CALLS = 100
_PROCESSES = 3
"""Of each engine, for start-up and memory."""


@dataclass(frozen=True, slots=True)
class BenchmarkConfig:
    """How long and how much is measured.

    Attributes:
        rounds: timed frames per engine, where no duration is given.
        duration_s: seconds of interleaved timing instead.
        rate_hz: of a camera whose frames are answered too; None for none.
        brief: latency, start-up and memory only.
    """

    rounds: int = 30
    duration_s: float | None = None
    rate_hz: float | None = None
    brief: bool = False


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """Where results go besides the terminal; None for nowhere."""

    html: Path | None = None
    markdown: Path | None = None
    out: Path | None = None
    against: Path | None = None
    threshold: float = 0.05


def run(terminal: Terminal, wanted: TargetFilter, depth: BenchmarkConfig, results: OutputPaths) -> None:
    """Measure, show and write.

    Raises:
        BundleError, BackendUnavailable, EngineMismatch: what was asked for is not there.
        RegressionError: with `results.against`, something is slower than it was.
        OSError: a result cannot be written.
    """
    from edge_mtl.commands.benchmark_results import check_against, check_places, image_places, write

    check_places(results)
    bundles = find_bundles(wanted)
    check_against(results, planned(bundles, wanted))
    report, images = _measure(terminal, bundles, wanted, depth, images=image_places(results))
    show(terminal, report)
    write(terminal, report, images, results)


def compare(terminal: Terminal, bundle: Bundle, options: EngineOptions, *, rounds: int) -> BenchmarkReport:
    """All engines, the baseline first; latency, start-up and memory only; shown as a table too."""
    wanted = TargetFilter((bundle.path,), (options.backend,), (options.precision,), options.threads)
    report, _ = _measure(terminal, (bundle,), wanted, BenchmarkConfig(rounds=rounds, brief=True), images=0)
    show(terminal, report)
    return report


def _measure(
    terminal: Terminal, bundles: Sequence[Bundle], wanted: TargetFilter, depth: BenchmarkConfig, *, images: int
) -> tuple[BenchmarkReport, list[tuple[str, bytes]]]:
    card = gpu()
    conditions = Conditions(["edge-mtl", *sys.argv[1:]], gpu=card if isinstance(card, Nvml) else None)
    unavailable: list[dict[str, str]] = []
    drawn: list[tuple[str, bytes]] = []
    with contextlib.ExitStack() as stack, terminal.steps() as step:
        step("loading engines", 0, 0)
        subjects = collect_targets(bundles, wanted, stack)
        turns = run_interleaved(
            {subject.name: subject for subject in subjects},
            rounds=None if depth.duration_s is not None else depth.rounds,
            duration_s=depth.duration_s,
            warm_up_calls=20 if depth.brief else _WARM_UP_CALLS,
            progress=lambda done, total: step("timing whole frames, interleaved", done, total),
        )
        baseline = turns[subjects[0].name].seconds
        rows = {subject.name: _row(subject, turns[subject.name], baseline) for subject in subjects}
        if not depth.brief and wanted.batch == 1:
            add_streams(rows, subjects, step)
            add_accuracy(rows, subjects, step, unavailable)
        if depth.rate_hz is not None:
            seconds = depth.rounds / depth.rate_hz if depth.duration_s is None else depth.duration_s
            add_fixed_rate(rows, subjects, step, rate_hz=depth.rate_hz, seconds=seconds)
        if not depth.brief:
            add_energy(rows, subjects, step, card, unavailable)
        if images:
            from edge_mtl.commands.benchmark_results import draw

            step("images of predictions", 0, 0)
            drawn = draw(sorted(subjects, key=lambda subject: rows[subject.name].p50_ms), images)
    described = conditions.describe()
    with terminal.steps() as step:
        add_footprints(rows, subjects, step, unavailable, processes=1 if depth.brief else _PROCESSES)
    if isinstance(card, Unavailable):
        unavailable.append({"name": "device memory", "reason": card.reason})
    report = BenchmarkReport(
        bundles=[
            {"name": item.name, "revision": item.manifest.revision, "digest": item.digest, "tasks": list(item.tasks)}
            for item in bundles
        ],
        baseline=subjects[0].name,
        frame_size=(subjects[0].frame.shape[0], subjects[0].frame.shape[1]),
        rounds=len(baseline),
        rows=tuple(rows.values()),
        differences=differences({name: found.seconds for name, found in turns.items()}),
        unavailable=unavailable,
        conditions=described,
    )
    return report.withheld(), drawn


def _row(subject: BenchmarkTarget, turns: InterleavedTimes[Timing], baseline: Sequence[float]) -> BenchmarkRow:
    facts, info = subject.facts, subject.facts.info
    stages = _stages(turns)
    total = stages["total"]
    ratios = np.asarray(baseline) / np.maximum(turns.seconds, np.finfo(float).tiny)
    low, _, high = (float(value) for value in np.percentile(ratios, (25, 50, 75)))
    ratio = ratio_interval(baseline, turns.seconds)
    itself = baseline is turns.seconds
    return BenchmarkRow(
        name=subject.name,
        bundle=subject.bundle.name,
        precision=info.precision,
        backend=info.name,
        runtime_version=info.version,
        device=info.device,
        threads=info.threads,
        engine_key=facts.key,
        size_bytes=facts.size_bytes,
        batch=subject.batch,
        p50_ms=total.p50_ms,
        p90_ms=total.p90_ms,
        p99_ms=total.p99_ms,
        max_ms=total.max_ms,
        jitter_ms=total.jitter_ms,
        ratio=ratio.value,
        ratio_low=low,
        ratio_high=high,
        ratio_sure=(ratio.low, ratio.high),
        verdict=None if itself else verdict(ratio, samples=len(baseline)),
        prepare_ms=_median(stages, "prepare"),
        infer_ms=_median(stages, "infer"),
        postprocess_ms=_median(stages, "postprocess"),
        stages=stages,
        warm_up=turns.warm_up,
        load_s=facts.load_s,
        samples_ms=tuple(value * 1e3 for value in turns.seconds),
    )


def _stages(turns: InterleavedTimes[Timing]) -> dict[str, Distribution]:
    """Every stage that took time at all."""
    times: dict[str, Sequence[float]] = {
        name: [float(getattr(timing, name)) for timing in turns.answers] for name in STAGES if hasattr(Timing, name)
    }
    times["total"] = turns.seconds
    times["engine"] = [timing.copy_in + timing.infer + timing.copy_out for timing in turns.answers]
    return {name: distribution(times[name]) for name in STAGES if any(times[name])}


def _median(stages: Mapping[str, Distribution], name: str) -> float | None:
    return stages[name].p50_ms if name in stages else None
