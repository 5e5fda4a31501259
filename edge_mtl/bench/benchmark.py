"""One benchmark: every engine of this device and the reference in FP32, whole frames, interleaved; the order of measuring."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_mtl.bench.collect_targets import TargetFilter, collect_targets
from edge_mtl.bench.conditions import Conditions
from edge_mtl.bench.images import draw_predictions
from edge_mtl.bench.interleaved import InterleavedTimes, run_interleaved
from edge_mtl.bench.measures import Step, add_accuracy, add_energy, add_fixed_rate, add_footprints, add_streams
from edge_mtl.bench.report import STAGES, BenchmarkReport, BenchmarkRow, differences
from edge_mtl.bench.sensors import Unavailable, gpu
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.statistics import Distribution, distribution, ratio_interval, verdict
from edge_mtl.bench.targets import BenchmarkTarget
from edge_mtl.bundle import Bundle
from edge_mtl.prediction import Timing

__all__ = ["BenchmarkConfig", "measure_benchmark"]

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


def measure_benchmark(
    bundles: Sequence[Bundle],
    targets: TargetFilter,
    config: BenchmarkConfig,
    *,
    images: int = 0,
    command: Sequence[str] = (),
    progress: Step | None = None,
) -> tuple[BenchmarkReport, list[tuple[str, bytes]]]:
    """Measure every engine of `bundles` that `targets` lets through, the baseline first.

    Args:
        images: frames with their maps to draw, for the card.
        command: that asked for it, for the report.
    Returns:
        The report, and the images as (title, JPEG).
    Raises:
        BundleError, BackendUnavailable, EngineMismatch: what was asked for is not there.
    """
    step = progress or _silent
    card = gpu()
    conditions = Conditions(list(command), gpu=card if isinstance(card, Nvml) else None)
    unavailable: list[dict[str, str]] = []
    drawn: list[tuple[str, bytes]] = []
    with contextlib.ExitStack() as stack:
        step("loading engines", 0, 0)
        subjects = collect_targets(bundles, targets, stack)
        turns = run_interleaved(
            {subject.name: subject for subject in subjects},
            rounds=None if config.duration_s is not None else config.rounds,
            duration_s=config.duration_s,
            warm_up_calls=20 if config.brief else _WARM_UP_CALLS,
            progress=lambda done, total: step("timing whole frames, interleaved", done, total),
        )
        baseline = turns[subjects[0].name].seconds
        rows = {subject.name: _row(subject, turns[subject.name], baseline) for subject in subjects}
        if not config.brief and targets.batch == 1:
            add_streams(rows, subjects, step)
            add_accuracy(rows, subjects, step, unavailable)
        if config.rate_hz is not None:
            seconds = config.rounds / config.rate_hz if config.duration_s is None else config.duration_s
            add_fixed_rate(rows, subjects, step, rate_hz=config.rate_hz, seconds=seconds)
        if not config.brief:
            add_energy(rows, subjects, step, card, unavailable)
        if images:
            step("images of predictions", 0, 0)
            drawn = draw_predictions(sorted(subjects, key=lambda subject: rows[subject.name].p50_ms), images)
    described = conditions.describe()
    add_footprints(rows, subjects, step, unavailable, processes=1 if config.brief else _PROCESSES)
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
    return report.redacted(), drawn


def _silent(step: str, done: int, total: int) -> None:
    return None


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
