"""What a benchmark found: one row per engine, as values for tables, JSON and the card. Knows nothing about printing.

The fields of the JSON are documented in docs/guides/benchmark.md; FORMAT_VERSION changes when one of them changes its
meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

from edge_mtl.bench.conditions import disturbed
from edge_mtl.bench.energy import EnergyRow
from edge_mtl.bench.fixed_rate import FixedRateRow
from edge_mtl.bench.interleaved import WarmUp
from edge_mtl.bench.statistics import Distribution, Interval, Verdict, distribution, ratio_interval, verdict

__all__ = ["FORMAT_VERSION", "STAGES", "BenchmarkReport", "BenchmarkRow", "Difference", "Memory", "StartUp", "differences"]

FORMAT_VERSION = 1
KIND = "edge-mtl benchmark"
STAGES = ("prepare", "copy_in", "infer", "copy_out", "postprocess", "total", "engine")
"""`total` is the whole frame by the benchmark's clock; `engine` is copy_in, infer and copy_out together."""

_SAMPLE_DIGITS = 4
_NOTHING: Verdict = "no difference shown"


@dataclass(frozen=True, slots=True)
class StartUp:
    """Of a process of its own, in seconds.

    Attributes:
        start_s: from the start of the interpreter to the first prediction.
        load_s: from the call that opens the engine until it is ready.
        first_s: the first prediction.
    """

    start_s: float
    load_s: float
    first_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process of its own, in bytes.

    Attributes:
        peak_rss: largest resident memory.
        above_empty: that, less what the process had before it loaded the engine.
        device: memory of the GPU; None where there is none, or it does not tell.
    """

    peak_rss: int
    above_empty: int
    device: int | None


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One engine; times in milliseconds of a whole frame, image to maps, or of the inference of `batch` frames.

    Attributes:
        name: bundle (where there are several), precision and backend.
        engine_key: of the built engine; None for graphs of the bundle.
        size_bytes: of the graph that runs.
        batch: frames per call.
        p50_ms, p90_ms, p99_ms, max_ms, jitter_ms: of `stages["total"]`, outliers kept.
        ratio, ratio_low, ratio_high: how many times faster than the baseline: median and quartiles over rounds.
        ratio_sure: 95 % confidence interval of `ratio`.
        verdict: what may be said about that.
        prepare_ms, infer_ms, postprocess_ms: medians; None where not known.
        stages: by name, see `STAGES`; stages that this engine does not have are left out.
        warm_up: calls before the first timed one, in this process.
        load_s: in this process, other engines beside it.
        start_up, memory: None where they were not measured.
        stream_fps: frames per second of `Engine.stream`; None where it was not measured.
        paced: with a camera of fixed rate; None where it was not asked for.
        energy: by sensor; empty without sensors.
        accuracy: metrics on the bundle's labelled frames, measured in this run; empty where there are none.
        samples_ms: every timed frame, in order.
    """

    name: str
    bundle: str
    precision: str
    backend: str
    runtime_version: str
    device: str
    threads: int
    engine_key: str | None
    size_bytes: int | None
    batch: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    jitter_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ratio_sure: tuple[float, float]
    verdict: Verdict | None
    prepare_ms: float | None
    infer_ms: float | None
    postprocess_ms: float | None
    stages: Mapping[str, Distribution]
    warm_up: WarmUp
    load_s: float
    start_up: StartUp | None = None
    memory: Memory | None = None
    stream_fps: Interval | None = None
    paced: FixedRateRow | None = None
    energy: tuple[EnergyRow, ...] = ()
    accuracy: Mapping[str, float] = field(default_factory=dict)
    samples_ms: tuple[float, ...] = ()

    @property
    def start_s(self) -> float | None:
        """From the start of the interpreter to the first prediction."""
        return None if self.start_up is None else self.start_up.start_s

    @property
    def rss_bytes(self) -> int | None:
        """Largest resident memory of a process of its own."""
        return None if self.memory is None else self.memory.peak_rss

    @property
    def frames_per_s(self) -> float:
        """By the median: frames of a call over its time. What a pipeline of frames reaches is `stream_fps`."""
        return self.batch * 1e3 / self.p50_ms if self.p50_ms else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        content = asdict(self) | {"start_s": self.start_s, "rss_bytes": self.rss_bytes, "frames_per_s": self.frames_per_s}
        content["samples_ms"] = [round(value, _SAMPLE_DIGITS) for value in self.samples_ms]
        return content


@dataclass(frozen=True, slots=True)
class Difference:
    """What may be said about two rows that are neighbours in speed.

    Attributes:
        ratio: how many times faster `first` is than `second`, round by round.
    """

    first: str
    second: str
    ratio: Interval
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """A whole benchmark.

    Attributes:
        bundles: name, revision and digest of each.
        baseline: name of the row that ratios refer to.
        rounds: timed frames of each row.
        rows: the baseline first.
        differences: neighbours in speed, the fastest first.
        unavailable: what could not be measured here: {"name": ..., "reason": ...}.
        conditions: see `edge_mtl.bench.conditions.Conditions`.
    """

    bundles: Sequence[Mapping[str, Any]]
    baseline: str
    frame_size: tuple[int, int]
    rounds: int
    rows: tuple[BenchmarkRow, ...]
    differences: tuple[Difference, ...]
    unavailable: Sequence[Mapping[str, str]]
    conditions: Mapping[str, Any]

    @property
    def disturbed(self) -> str:
        """Why nothing is shown, see `edge_mtl.bench.conditions.disturbed`; empty where the figures may be used."""
        return disturbed(self.conditions)

    @property
    def fastest(self) -> str | None:
        """Name of the row that was shown to be faster than the next one; None where no difference was."""
        first = next(iter(self.differences), None)
        return first.first if first is not None and first.verdict == "faster" else None

    def redacted(self) -> BenchmarkReport:
        """The same figures without a verdict, where the machine was disturbed; else the report itself."""
        if not self.disturbed:
            return self
        return replace(
            self,
            rows=tuple(replace(row, verdict=row.verdict and _NOTHING) for row in self.rows),
            differences=tuple(replace(entry, verdict=_NOTHING) for entry in self.differences),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; name and revision of the first bundle are at the top too."""
        first = self.bundles[0]
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "bundle": first["name"],
            "revision": first["revision"],
            "bundles": [dict(bundle) for bundle in self.bundles],
            "baseline": self.baseline,
            "frame_size": list(self.frame_size),
            "rounds": self.rounds,
            **self.conditions,
            "rows": [row.to_dict() for row in self.rows],
            "differences": [asdict(entry) for entry in self.differences],
            "unavailable": [dict(entry) for entry in self.unavailable],
        }


def differences(seconds: Mapping[str, Sequence[float]]) -> tuple[Difference, ...]:
    """Each row against the next slower one, by the medians of `seconds`; times of one index must be neighbours in time."""
    order = sorted(seconds, key=lambda name: distribution(seconds[name]).p50_ms)
    found = []
    for first, second in pairwise(order):
        ratio = ratio_interval(seconds[second], seconds[first])
        found.append(Difference(first, second, ratio, verdict(ratio, samples=len(seconds[first]))))
    return tuple(found)
