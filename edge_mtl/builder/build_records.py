"""What is said of a build and kept of it: records of engines, rows of the report, warnings. Knows no runtime and no clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge_mtl.backends import spec_of
from edge_mtl.backends.reference import REFERENCE_RUNTIME
from edge_mtl.bench.latency import LatencyReport
from edge_mtl.builder.candidate_builds import BASELINE, CandidateBuild
from edge_mtl.builder.report import BuildReport, BuildRow
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frames import CalibrationSet
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.sidecars import EngineRecord, engine_file, engine_key
from edge_mtl.evaluation.labelled_frames import Score
from edge_mtl.files import sha256_bytes
from edge_mtl.onnx_graph.model import GraphIndex, facts, parse
from edge_mtl.quantization.layers import without_layers
from edge_mtl.quantization.learned import int8_graph
from edge_mtl.quantization.recipes import Recipe

__all__ = ["baseline_row", "calibration_of", "contents_of", "engine_record", "reused", "row_of", "slips_of", "warnings_of"]

_WEIGHT_BITS = "weight_bits"
_FLOAT_BLOCKS = "float_blocks"
_GRAPH = "graph"


def engine_record(
    build: CandidateBuild,
    store: EngineStore,
    request: Mapping[str, Any],
    asked: PlanOptions,
    timed: LatencyReport,
    reference: Score,
    bundle: Bundle,
    seconds: float,
) -> EngineRecord:
    candidate, row = build.candidate, timed[build.candidate.name]
    graph, digest = bundle.entry(OPTIMIZED_ONNX).sha256, sha256_bytes(build.engine)
    version = store.runtimes[candidate.backend]
    options = {**request, _FLOAT_BLOCKS: ", ".join(candidate.float_blocks)} if candidate.float_blocks else dict(request)
    if candidate.plain:
        options[_GRAPH] = REFERENCE_ONNX
    if build.plan is not None:
        options |= asked.key_values() | {"library": build.plan.library}
    gpu = store.gpu if spec_of(candidate.backend).device == "cuda" else None
    key = engine_key(
        backend=candidate.backend,
        runtime_version=version,
        device=store.device,
        precision=candidate.precision,
        graph_sha256=graph,
        options=options,
        gpu=gpu,
    )
    if _has_bits(build):  # not in the key: the build chooses, and the last choice counts
        options[_WEIGHT_BITS] = candidate.weight_bits
    return EngineRecord(
        key=key,
        precision=candidate.precision,
        backend=candidate.backend,
        runtime_version=version,
        device=store.device,
        graph_sha256=graph,
        file=engine_file(key, digest, candidate.backend),
        sha256=digest,
        size=len(build.engine),
        options=options,
        build_seconds=round(seconds, 2),
        latency_ms=round(row.median_ms, 3),
        baseline_latency_ms=round(timed[BASELINE].median_ms, 3),
        ratio=round(row.ratio, 3),
        self_test=build.self_test.to_dict() if build.self_test is not None else {},
        agreement=build.score.agreement,
        accuracy={"fp32": reference.accuracy, "this": build.score.accuracy},
        created=time.time(),
        gpu=gpu,
        contents=contents_of(build),
    )


def _has_bits(build: CandidateBuild) -> bool:
    """Whether the build chose the bits of its weights."""
    return build.quantized and spec_of(build.candidate.backend).device == "cpu"


def baseline_row(baseline: CandidateBuild, name: str, bundle: Bundle, timed: LatencyReport) -> BuildRow:
    row = timed[BASELINE]
    return BuildRow(
        precision="fp32",
        backend=baseline.candidate.backend,
        reason=f"{name} as anyone can run it",
        baseline=True,
        latency_ms=row.median_ms,
        latency_p90_ms=row.p90_ms,
        ratio=1.0,
        size_bytes=bundle.entry(name).size,
        agreement=baseline.score.agreement,
        accuracy=baseline.score.accuracy,
    )


def row_of(build: CandidateBuild, ranking: Sequence[CandidateBuild], timed: LatencyReport) -> BuildRow:
    candidate, winner = build.candidate, ranking[0]
    bits = candidate.weight_bits if _has_bits(build) else 0
    row = BuildRow(
        candidate.precision, candidate.backend, reason=str(build.failure), size_bytes=len(build.engine), weight_bits=bits
    )
    if build.failure is not None:
        return row
    latency = timed[candidate.name]
    chosen = build is winner
    reason = "the fastest that passed its self-test" if chosen else f"passed, but {winner.candidate.name} is faster"
    if candidate.float_blocks:
        reason = f"{reason}; keeps in floating point: {', '.join(candidate.float_blocks)}"
    if candidate.plain:
        reason = f"{reason}; made of the reference ONNX, with pre- and post-processing in it"
    return replace(
        row,
        reason=reason,
        chosen=chosen,
        stored=any(build is kept for kept in ranking),
        latency_ms=latency.median_ms,
        latency_p90_ms=latency.p90_ms,
        ratio=latency.ratio,
        agreement=build.score.agreement,
        accuracy=build.score.accuracy,
        self_test=build.self_test.to_dict() if build.self_test is not None else {},
    )


def contents_of(winner: CandidateBuild) -> str:
    if winner.plan is not None:
        return winner.plan.describe()
    if winner.quantized:
        return facts(winner.model).describe()
    return "the bundle's reference ONNX" if winner.candidate.plain else "the bundle's optimized ONNX"


def calibration_of(frames: CalibrationSet | None) -> dict[str, Any]:
    if frames is None:
        return {}
    found = {"count": len(frames), "source": frames.source, "digest": frames.digest, "skipped": list(frames.skipped)}
    return found if frames.recorded is None else {**found, "recorded": True}


def slips_of(recipe: Recipe, bundle: Bundle) -> tuple[str, ...]:
    """What a recipe of one's own says about layers that the network does not have."""
    index = GraphIndex(parse(int8_graph(bundle), name="the graph that INT8 is made from"))
    return tuple(
        f"The recipe {recipe.name} says something about layers {override.match!r}; this network has none of that name. "
        "edge-mtl sensitivity --level layer lists them."
        for override in without_layers(recipe.layers, index)
    )


def warnings_of(
    frames: CalibrationSet | None,
    winner: CandidateBuild,
    builds: Sequence[CandidateBuild],
    timed: LatencyReport,
    *,
    stand_ins: str = "",
) -> tuple[str, ...]:
    """Sentences for people.

    Args:
        stand_ins: what is to be said of the frames that an engine of integers was scored on.
    """
    found = []
    if frames is not None and frames.skipped:
        found.append(f"Calibration images that cannot be read were left out: {', '.join(frames.skipped)}")
    found += [f"{build.candidate.name} was left out: {build.failure}" for build in builds if build.failure is not None]
    if winner.verdict is not None and not winner.verdict.passed:
        lost = "; ".join(winner.verdict.failures)
        found.append(f"{winner.candidate.name} loses more than it should, and was built all the same. {lost}.")
    if winner.quantized and (winner.verdict is None or not winner.verdict.labelled):
        found.append(
            "The bundle has no labelled frames: what INT8 costs in accuracy is not known here. Measure it with "
            "edge-mtl verify BUNDLE --data DIR"
        )
    if winner.quantized and stand_ins:
        found.append(stand_ins)
    if winner.quantized and timed[winner.candidate.name].ratio_sure[1] < 1.0:
        slower = 1.0 / timed[winner.candidate.name].ratio
        found.append(
            f"{winner.candidate.name} takes {slower:.2f} times as long as plain FP32 on this machine: it saves memory, and no "
            'time. Engine(precision="fp32") runs the bundle as it is.'
        )
    if not winner.quantized and any(build.quantized for build in builds):
        found.append(
            f"INT8 does not pay on this machine: {winner.candidate.name} is faster within the budget, so that is built."
        )
    if timed.disturbed:
        found.append(
            f"{winner.candidate.name} was chosen, but not shown to be the fastest: during the timing {timed.disturbed}. "
            "Build again when the machine is quieter."
        )
    return tuple(found)


def reused(store: EngineStore, record: EngineRecord, frames: CalibrationSet | None, seconds: float) -> BuildReport:
    baseline = BuildRow(
        precision="fp32",
        backend=REFERENCE_RUNTIME,
        reason="FP32 as anyone can run it",
        baseline=True,
        latency_ms=record.baseline_latency_ms,
        ratio=1.0,
        accuracy=record.accuracy.get("fp32", {}),
    )
    row = BuildRow(
        precision=record.precision,
        backend=record.backend,
        reason="another process built it meanwhile",
        chosen=True,
        stored=True,
        latency_ms=record.latency_ms,
        ratio=record.ratio,
        size_bytes=record.size,
        agreement=record.agreement,
        accuracy=record.accuracy.get("this", {}),
        self_test=record.self_test,
    )
    path = store.folder / record.file
    return BuildReport(record, path, (baseline, row), record.contents, calibration_of(frames), seconds, reused=True)
