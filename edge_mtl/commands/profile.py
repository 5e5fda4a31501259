"""`edge-mtl profile`: where the time of a frame goes, by part of the network. Knows what is asked and how it is shown.

Layer times are the runtime's own; pre- and post-processing, and the whole frame without a profiler, are timed as in
`edge-mtl benchmark`.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edge_mtl.backends.profiling import LayerProfile, profile_graph
from edge_mtl.backends.selection import parse_device
from edge_mtl.bench.card.plots import bars
from edge_mtl.bench.card.theme import standing_alone
from edge_mtl.bench.collect_targets import first_frame
from edge_mtl.bench.conditions import Conditions
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.layer_groups import BETWEEN, PARTS, POST, PRE, LayerGroupMap, totals
from edge_mtl.bench.op_types import KINDS, kind_of
from edge_mtl.bench.targets import GraphTarget
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle, find
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import Terminal, plain, table
from edge_mtl.engine_store.resolve import ResolvedEngine, resolve_engine
from edge_mtl.files import write_atomic

__all__ = ["PartTime", "by_kind", "run"]

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


def run(
    terminal: Terminal, options: EngineOptions, *, rounds: int, layers: int, svg: Path | None = None, out: Path | None = None
) -> None:
    """Profile what an Engine would run, show it and write what was asked for.

    Raises:
        BundleError, EngineMismatch, BackendUnavailable: as for an Engine; or the runtime has no profiler.
        OSError: a file cannot be written.
    """
    for path in (svg, out):
        if path is not None and path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "expected a file name, found a folder", str(path))
    conditions = Conditions(["edge-mtl", *sys.argv[1:]])
    bundle = find(options.bundle)
    kind, index = parse_device(options.device)
    choice = resolve_engine(
        bundle, backend=options.backend, precision=options.precision, threads=options.threads, kind=kind, device=index
    )
    with terminal.steps() as step:
        step("timing whole frames", 0, rounds)
        host = _host_times(bundle, choice, options.threads, rounds, index)
        step("profiling layers", 0, 0)
        found = profile_graph(
            choice.backend, choice.model, precision=choice.precision, threads=options.threads, runs=rounds, device=index
        )
    # Engines keep the names of the nodes they were made of, but not those of weights, and a plan has no graph any more.
    graph = choice.model if choice.key is None else bundle.read(OPTIMIZED_ONNX)
    known = LayerGroupMap(graph)
    parts = known.group([layer.sources for layer in found.layers])
    kinds = [kind_of(layer.kind, known.operators(layer.sources)) for layer in found.layers]
    rows = _rows(found, parts, host)
    work = by_kind(found, kinds)
    content = plain(_content(bundle, choice, found, parts, rows, work, host)) | conditions.describe()
    if terminal.json_output:
        terminal.record(content)
    title = f"{bundle.name}, {found.precision} on {found.backend} {found.version}, {found.threads} threads"
    _show(terminal, title, rows, work, found, parts, host, layers)
    if out is not None:
        write_atomic(out, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
        terminal.show(f"Written: {out}")
    if svg is not None:
        values = [(row.part, row.milliseconds, f"{row.milliseconds:.2f} ms, {row.share:.0%}") for row in rows]
        write_atomic(svg, (bars(title, "ms", list(values), style=standing_alone()) + "\n").encode())
        terminal.show(f"Written: {svg}")


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
        for part in PARTS
        if sums.get(part, 0.0) > 0
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


def _content(
    bundle: Bundle,
    choice: ResolvedEngine,
    found: LayerProfile,
    parts: list[str],
    rows: list[PartTime],
    work: list[PartTime],
    host: dict[str, float],
) -> dict[str, Any]:
    return {
        "kind": "edge-mtl profile",
        "format_version": FORMAT_VERSION,
        "bundle": bundle.name,
        "revision": bundle.manifest.revision,
        "engine_key": choice.key,
        "backend": found.backend,
        "runtime_version": found.version,
        "precision": found.precision,
        "threads": found.threads,
        "runs": len(found.run_s),
        "frame_ms": {name: seconds * 1e3 for name, seconds in host.items()},
        "profiled_run_ms": median(found.run_s) * 1e3,
        "parts": [asdict(row) for row in rows],
        "kinds": [
            {"kind": row.part, "milliseconds": row.milliseconds, "share": row.share, "layers": row.layers} for row in work
        ],
        "layers": [
            {"name": layer.name, "kind": layer.kind, "part": part, "median_ms": layer.median_s * 1e3}
            for layer, part in zip(found.layers, parts, strict=True)
        ],
    }


def _show(
    terminal: Terminal,
    title: str,
    rows: list[PartTime],
    work: list[PartTime],
    found: LayerProfile,
    parts: list[str],
    host: dict[str, float],
    layers: int,
) -> None:
    if terminal.json_output:
        return
    numbers = ("ms", "share", "layers")
    result = table(title, "part", *numbers, right=numbers)
    for row in rows:
        result.add_row(row.part, f"{row.milliseconds:.3f}", f"{row.share:.1%}", str(row.layers) if row.layers else "–")
    terminal.show(result)
    kinds = table("the same layers by kind of work", "kind", *numbers, right=numbers)
    for row in work:
        kinds.add_row(row.part, f"{row.milliseconds:.3f}", f"{row.share:.1%}", str(row.layers))
    terminal.show(kinds)
    if layers:
        slowest = table("slowest layers", "layer", "kind", "part", "ms", right=("ms",))
        order = sorted(range(len(found.layers)), key=lambda place: -found.layers[place].median_s)
        for place in order[:layers]:
            layer = found.layers[place]
            slowest.add_row(layer.name[:60], layer.kind, parts[place], f"{layer.median_s * 1e3:.3f}")
        terminal.show(slowest)
    terminal.show(
        f"Inference takes {median(found.run_s) * 1e3:.2f} ms with the profiler and {host['infer'] * 1e3:.2f} ms without: "
        "read the shares."
    )
