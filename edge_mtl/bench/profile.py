"""Where the time of a frame goes: layer times by the runtime's own profiler, grouped by part of the network and kind of work.

Pre- and post-processing, and the whole frame without a profiler, are timed as in a benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from edge_mtl.backends.profiling import LayerProfile, profile_graph
from edge_mtl.backends.selection import parse_device
from edge_mtl.bench.collect_targets import first_frame
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.layer_groups import BETWEEN, POST, PRE, LayerGroupMap, in_order, totals
from edge_mtl.bench.measures import Step
from edge_mtl.bench.op_types import KINDS, kind_of
from edge_mtl.bench.targets import GraphTarget
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.engine_store.resolve import ResolvedEngine, resolve_engine

__all__ = ["FrameProfile", "PartTime", "by_kind", "profile_frame"]

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class PartTime:
    """One part of a frame.

    Attributes:
        milliseconds: median over runs of the sum of its layers; on the host, the median of pre- or post-processing.
        share: of all parts together.
        layers: how many; 0 for what happens outside the runtime.
    """

    part: str
    milliseconds: float
    share: float
    layers: int


@dataclass(frozen=True, slots=True)
class FrameProfile:
    """Where the time of a frame goes.

    Attributes:
        bundle, revision: what was profiled; engine_key is None for a graph of the bundle.
        profile: the runtime's own times.
        layer_parts: part of the network of each of its layers.
        parts: time by part, in the order of a frame.
        kinds: time by kind of work, the longest first.
        frame_s: medians in seconds of prepare, infer, postprocess and total, without a profiler.
    """

    bundle: str
    revision: int
    engine_key: str | None
    profile: LayerProfile
    layer_parts: tuple[str, ...]
    parts: tuple[PartTime, ...]
    kinds: tuple[PartTime, ...]
    frame_s: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "kind": "edge-mtl profile",
            "format_version": FORMAT_VERSION,
            "bundle": self.bundle,
            "revision": self.revision,
            "engine_key": self.engine_key,
            "backend": self.profile.backend,
            "runtime_version": self.profile.version,
            "precision": self.profile.precision,
            "threads": self.profile.threads,
            "runs": len(self.profile.run_s),
            "frame_ms": {name: seconds * 1e3 for name, seconds in self.frame_s.items()},
            "profiled_run_ms": median(self.profile.run_s) * 1e3,
            "parts": [asdict(row) for row in self.parts],
            "kinds": [
                {"kind": row.part, "milliseconds": row.milliseconds, "share": row.share, "layers": row.layers}
                for row in self.kinds
            ],
            "layers": [
                {"name": layer.name, "kind": layer.kind, "part": part, "median_ms": layer.median_s * 1e3}
                for layer, part in zip(self.profile.layers, self.layer_parts, strict=True)
            ],
        }


def profile_frame(
    bundle: Bundle,
    *,
    backend: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    rounds: int = 20,
    progress: Step,
) -> FrameProfile:
    """Profile what an Engine would run.

    Raises:
        BundleError, EngineMismatch, BackendUnavailable: as for an Engine; or the runtime has no profiler.
    """
    kind, index = parse_device(device)
    choice = resolve_engine(bundle, backend=backend, precision=precision, threads=threads, kind=kind, device=index)
    progress("timing whole frames", 0, rounds)
    host = _host_times(bundle, choice, threads, rounds, index)
    progress("profiling layers", 0, 0)
    found = profile_graph(choice.backend, choice.model, precision=choice.precision, threads=threads, runs=rounds, device=index)
    # Engines keep the names of the nodes they were made of, but not those of weights, and a plan has no graph any more.
    graph = choice.model if choice.key is None else bundle.read(OPTIMIZED_ONNX)
    known = LayerGroupMap(graph)
    parts = known.group([layer.sources for layer in found.layers])
    kinds = [kind_of(layer.kind, known.operators(layer.sources)) for layer in found.layers]
    return FrameProfile(
        bundle=bundle.name,
        revision=bundle.manifest.revision,
        engine_key=choice.key,
        profile=found,
        layer_parts=tuple(parts),
        parts=tuple(_rows(found, parts, host)),
        kinds=tuple(by_kind(found, kinds)),
        frame_s=host,
    )


def _host_times(bundle: Bundle, choice: ResolvedEngine, threads: int | None, rounds: int, device: int) -> dict[str, float]:
    """Medians in seconds of prepare, infer and postprocess, without a profiler."""
    backend = choice.open(threads=threads, device=device)
    try:
        subject = GraphTarget("engine", bundle, backend, first_frame(bundle), load_s=0.0)
        timings = run_interleaved({"engine": subject}, rounds=rounds)["engine"].answers
    finally:
        backend.close()
    return {name: median(getattr(timing, name) for timing in timings) for name in ("prepare", "infer", "postprocess", "total")}


def _rows(found: LayerProfile, parts: list[str], host: dict[str, float]) -> list[PartTime]:
    runs = [totals(parts, [layer.seconds[run] for layer in found.layers]) for run in range(len(found.run_s))]
    sums = {part: median(run.get(part, 0.0) for run in runs) for part in dict.fromkeys(parts)}
    sums[PRE] = sums.get(PRE, 0.0) + host["prepare"]
    sums[POST] = sums.get(POST, 0.0) + host["postprocess"]
    sums[BETWEEN] = max(0.0, median(whole - sum(run.values()) for whole, run in zip(found.run_s, runs, strict=True)))
    whole = sum(sums.values())
    return [
        PartTime(part, sums[part] * 1e3, sums[part] / whole if whole else 0.0, parts.count(part))
        for part in in_order(sums)
        if sums[part] > 0
    ]


def by_kind(found: LayerProfile, kinds: Sequence[str]) -> list[PartTime]:
    """Time by kind of work, the longest first; `kinds` says which layer does what. Shares are of all layers together."""
    runs = [[layer.seconds[run] for layer in found.layers] for run in range(len(found.run_s))]
    sums = {
        kind: median(sum(spent for spent, each in zip(run, kinds, strict=True) if each == kind) for run in runs)
        for kind in KINDS
        if kind in kinds
    }
    whole = sum(sums.values())
    rows = [PartTime(kind, sums[kind] * 1e3, sums[kind] / whole if whole else 0.0, kinds.count(kind)) for kind in sums]
    return sorted(rows, key=lambda row: -row.milliseconds)
