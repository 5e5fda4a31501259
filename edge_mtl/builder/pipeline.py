"""From a bundle to an engine on this device: quantize once, try every runtime, test, time, score, store the winners.

Reads top to bottom as what happens. Knows the order of steps; every step is elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edge_mtl.backends import proven, spec_of
from edge_mtl.backends.selection import check_any, on_kind, parse_device, resolve_gpu
from edge_mtl.builder.build_records import (
    baseline_row,
    calibration_of,
    contents_of,
    engine_record,
    reused,
    row_of,
    slips_of,
    warnings_of,
)
from edge_mtl.builder.candidate_builds import (
    CandidateBuild,
    Progress,
    build_candidate_plan,
    check_accuracy,
    nothing_passed,
    open_and_test,
    open_baseline,
    score_builds,
    time_builds,
)
from edge_mtl.builder.candidate_graphs import candidate_graphs, named_by
from edge_mtl.builder.candidates import AUTO, Candidate, candidates, with_weight_bits
from edge_mtl.builder.report import BuildReport
from edge_mtl.builder.search import propose
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import CalibrationSet, load_calibration
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.sidecars import EngineRecord
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget
from edge_mtl.evaluation.labelled_frames import stand_ins
from edge_mtl.onnx_graph.model import import_onnx
from edge_mtl.quantization.learned import OWN_RECIPE, QAT_MODEL, int8_recipe
from edge_mtl.quantization.recipes import Recipe, load_recipe, recipe_for

__all__ = ["SEARCH_S", "Progress", "build_engine"]

SEARCH_S = 240.0
_ROUNDS = 25
_BUDGET_S = 20.0
_AUTO_BUDGET_S = 90.0
"""With many candidates close to one another a loaded machine needs more rounds to tell them apart."""

_DECIDES_RANGES = ("calibration", "recipe_digest", "plan_recipe_digest", "fine_tuned")
"""Options of an INT8 engine that say which integers it holds, besides the bits of its weights, which the build chooses."""

_NOT_KEPT = "Compiled code could not be kept in {}: engines work, and start slower."


def build_engine(
    bundle: Bundle,
    *,
    precision: str = "int8",
    backend: str = "auto",
    device: str = "auto",
    calibration: Path | None = None,
    recipe: Recipe | None = None,
    most_frames: int | None = None,
    threads: int | None = None,
    store: EngineStore | None = None,
    budget: Budget | None = DEFAULT_BUDGET,
    search_s: float = SEARCH_S,
    plan_options: PlanOptions | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build, test and time engines of `bundle` for this device, and store those that pass.

    Every candidate that passes its self-test is stored, so that a device that loses a runtime still has the next best;
    the fastest is the one chosen. Two builds at once do the work once: the second waits and takes the first one's engine.

    Args:
        precision: "int8", "bf16", "fp16" or "fp32"; INT8 engines may compute what is left in floating point as bfloat16, on
            TensorRT as float16, where INT8 must also be faster than half and full precision or it is not the one chosen.
            "auto" tries all that this machine has, and INT8 with some blocks in floating point, and takes the fastest within
            the budget.
        backend: "auto" tries every runtime that is here, a name only that one.
        device: "cpu", "cuda" or "cuda:1" (the second GPU) tries only what runs there; "auto" all, on the first GPU.
        calibration: folder of images for INT8 ranges; the bundle's frames when not given.
        recipe: how to quantize; only runtimes that it names get INT8. The bundle's own, or else the package's, when not given.
        most_frames: how many calibration frames at most; as the recipe says when not given.
        threads: of the runtimes; one per physical core when not given.
        store: where engines go; the bundle's by default.
        budget: what an engine may lose against FP32 on the bundle's frames, or else it is not stored; None stores it all the
            same, with a warning, and does not look for blocks to keep in floating point.
        plan_options: of TensorRT, besides the precision.
        search_s: about how long "auto" may look for blocks that are better kept in floating point; 0 does not look.
        progress: see `Progress`.
    Raises:
        BackendUnavailable: no runtime, not the one named, or the package onnx is missing.
        CalibrationError: no usable frames.
        AccuracyError: no candidate agrees with the FP32 reference, or none is within the budget.
        BuildError: the precision is not to be had here, no candidate could be built, or the disk has no room for them, which is
            looked at first.
        BundleError: the bundle is damaged or lacks a file.
    """
    start = time.time()
    if budget is not None:
        budget.check(bundle.manifest.tasks)
    kind, index = parse_device(device)
    place = store or EngineStore(bundle, gpu=resolve_gpu(index))
    report = progress or _silent
    here = on_kind(proven(), kind)
    check_any(here, kind)
    tried = candidates(precision, backend=backend, available=here, device=place.device)
    if recipe is not None:
        tried = named_by(recipe, tried)
    elif bundle.has(OWN_RECIPE):
        tried = named_by(int8_recipe(bundle), tried, others=True)
    integers = any(candidate.precision.startswith("int8") for candidate in tried)
    chosen_recipe = recipe or (int8_recipe(bundle) if integers else load_recipe())
    tried = with_weight_bits(tried, chosen_recipe.weights.reduce_range, place.device)
    frames: CalibrationSet | None = None
    if integers:
        import_onnx()
        frames = load_calibration(
            bundle,
            calibration,
            count=most_frames or chosen_recipe.calibration.frames,
            unreadable_share=chosen_recipe.calibration.unreadable_share,
        )
    request = _request(bundle, precision, backend, threads, frames, chosen_recipe)
    if frames is not None and (digests := _digests_of_plans(tried, chosen_recipe)):
        request["plan_recipe_digest"] = " ".join(digests)
    asked = plan_options or PlanOptions()
    place.require_space(_most_stored(tried, precision))
    with place.building(waiting=partial(report, "wait", 0, 1)) as waited:
        if waited and (found := _built_meanwhile(place, request, start)) is not None:
            return reused(place, found, frames, time.time() - start)
        with ExitStack() as stack:
            models = candidate_graphs(
                bundle, tried, frames, chosen_recipe, threads=threads, progress=report, weak=asked.typing == "weak"
            )
            builds = [CandidateBuild(candidate, model) for candidate, model in models.graphs.items()]
            if precision == AUTO and frames is not None and models.calibrated is not None and budget is not None and search_s:
                found_by_search = propose(
                    bundle,
                    frames,
                    [candidate for candidate in tried if spec_of(candidate.backend).device == "cpu"],
                    recipe=chosen_recipe,
                    calibrated=models.calibrated,
                    budget=budget,
                    limit_s=search_s,
                    threads=threads,
                    progress=report,
                )
                builds += [CandidateBuild(proposal.candidate, proposal.model) for proposal in found_by_search]
            for number, build in enumerate(builds):
                build_candidate_plan(build, place, asked, report, device=index)
                open_and_test(build, bundle, threads, stack, device=index)
                report("self-test", number + 1, len(builds))
            passed = [build for build in builds if build.failure is None]
            if not passed:
                raise nothing_passed(builds)
            baseline, name = open_baseline(bundle, threads, stack)
            timed = time_builds(
                baseline, passed, bundle, report, rounds=_ROUNDS, budget_s=_AUTO_BUDGET_S if precision == AUTO else _BUDGET_S
            )
            score_builds(baseline, passed, bundle, report)
            passed = check_accuracy(baseline, passed, budget)
            seconds = time.time() - start
            ranking = sorted(passed, key=lambda build: -timed[build.candidate.name].ratio)
            ranking = _best_per_runtime(ranking) if precision == AUTO else _best_of_alike(ranking)
            records = [engine_record(build, place, request, asked, timed, baseline.score, bundle, seconds) for build in ranking]
        kept = True
        for number, (record, build) in enumerate(zip(records, ranking, strict=True)):
            place.save(record, build.engine)
            kept = _keep_compiled(place, record, build) and kept
            report("store", number + 1, len(records))
        for old in _outdated(place, records):
            place.remove(old)
    return BuildReport(
        record=records[0],
        path=place.folder / records[0].file,
        rows=(baseline_row(baseline, name, bundle, timed), *(row_of(build, ranking, timed) for build in builds)),
        graph=contents_of(ranking[0]),
        calibration=calibration_of(frames),
        seconds=time.time() - start,
        warnings=(
            *(slips_of(recipe, bundle) if recipe is not None else ()),
            *warnings_of(frames, ranking[0], builds, timed, stand_ins=stand_ins(bundle)),
            *(() if kept else (_NOT_KEPT.format(place.compiled.folder),)),
        ),
    )


def _silent(step: str, done: int, total: int) -> None:
    return None


def _request(
    bundle: Bundle, precision: str, backend: str, threads: int | None, frames: CalibrationSet | None, recipe: Recipe
) -> dict[str, Any]:
    """What was asked for, as options of the engines that answer it."""
    if not bundle.has(OPTIMIZED_ONNX):
        raise BundleError(f"{bundle.path} has no {OPTIMIZED_ONNX}: engines are built from it. Export the bundle again.")
    options: dict[str, Any] = {"asked_precision": precision, "asked_backend": backend, "threads": threads}
    if frames is not None:
        options |= {"calibration": frames.digest, "recipe": recipe.name, "recipe_digest": recipe.digest}
        if bundle.has(QAT_MODEL):
            options["fine_tuned"] = bundle.entry(QAT_MODEL).sha256
    return options


def _digests_of_plans(tried: Sequence[Candidate], recipe: Recipe) -> tuple[str, ...]:
    """The recipes that INT8 plans are made by where `recipe` was chosen."""
    specs = [spec_of(candidate.backend) for candidate in tried]
    styles = [spec.qdq.name for spec in specs if spec.qdq is not None and not spec.takes_graphs]
    return tuple(dict.fromkeys(recipe_for(style, recipe).digest for style in styles))


def _built_meanwhile(store: EngineStore, request: Mapping[str, Any], start: float) -> EngineRecord | None:
    for record in store.list():
        asked = {name: record.options.get(name) for name in request}
        if record.created >= start and asked == dict(request) and store.mismatch(record) is None:
            return record
    return None


def _outdated(store: EngineStore, made: Sequence[EngineRecord]) -> list[EngineRecord]:
    """INT8 engines of this device, for the runtimes of `made`, by another recipe or from other frames.

    Left in the store they would compete with what was asked for now, and a few microseconds would decide. Only those in the
    folder that is written to: what lies elsewhere belongs to another revision, and a recalibration may still fail.
    """
    new = {record.backend: record for record in made if record.precision.startswith("int8")}
    return [
        old
        for old in store.list()
        if old.precision.startswith("int8")
        and old.backend in new
        and (store.folder / f"{old.key}.json").is_file()
        and store.mismatch(old) is None
        and any(old.options.get(name) != new[old.backend].options.get(name) for name in _DECIDES_RANGES)
    ]


def _most_stored(tried: Sequence[Candidate], precision: str) -> int:
    """How many engines a build stores at most."""
    return len({each.backend if precision == AUTO else replace(each, weight_bits=8) for each in tried})


def _best_per_runtime(ranking: Sequence[CandidateBuild]) -> list[CandidateBuild]:
    """The fastest of every runtime, in order: the others are not worth their space."""
    best: dict[str, CandidateBuild] = {}
    for build in ranking:
        best.setdefault(build.candidate.backend, build)
    return list(best.values())


def _best_of_alike(ranking: Sequence[CandidateBuild]) -> list[CandidateBuild]:
    """The fastest of those that differ in the bits of their weights only, in order."""
    best: dict[Candidate, CandidateBuild] = {}
    for build in ranking:
        best.setdefault(replace(build.candidate, weight_bits=8), build)
    return list(best.values())


def _keep_compiled(store: EngineStore, record: EngineRecord, build: CandidateBuild) -> bool:
    if build.compiled is None:
        store.compiled.remove(record)
        return True
    try:
        store.compiled.keep(record, build.compiled)
    except (BuildError, BundleError):
        return False
    return True
