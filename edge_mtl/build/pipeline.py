"""From a bundle to an engine on this device: quantize once, try every runtime, test, time, score, store the winners.

Reads top to bottom as what happens. Knows the order of steps; every step is elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from edge_mtl.backends import DEVICES, Backend, CompiledGraph, available, compile_graph, open_backend
from edge_mtl.bench.latency import LatencyReport, measure_interleaved
from edge_mtl.build.calibration import CalibrationSet, load_calibration
from edge_mtl.build.candidate_graphs import candidate_graphs, plan_recipe
from edge_mtl.build.candidates import AUTO, Candidate, candidates
from edge_mtl.build.evaluation import Score, evaluate
from edge_mtl.build.frame_path import FramePath
from edge_mtl.build.gate.budget import DEFAULT_BUDGET, Budget, Verdict, judge
from edge_mtl.build.graphs import facts, import_onnx
from edge_mtl.build.quantization.learned import QAT_MODEL, int8_recipe
from edge_mtl.build.quantization.search import propose
from edge_mtl.build.report import BuildReport, BuildRow
from edge_mtl.build.selftest import SelfTestReport, golden_frame, run_self_test
from edge_mtl.build.store.engines import EngineStore
from edge_mtl.build.store.records import PLAN_BACKENDS, EngineRecord, engine_file, engine_key
from edge_mtl.build.tensorrt.builder import PlanReport, build_plan
from edge_mtl.build.tensorrt.options import PlanOptions, PlanPrecision
from edge_mtl.bundle import DEPLOY_MODEL, GOLDEN, PLAIN_MODEL, Bundle
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError, BundleError, InferenceError
from edge_mtl.files import sha256_bytes
from edge_mtl.recipes import Recipe, load_recipe
from edge_mtl.tensorrt_api import find_library

__all__ = ["SEARCH_S", "Progress", "build_engine"]

Progress = Callable[[str, int, int], None]
"""Called with the step ("wait", "calibrate", "quantize", "search", "plan", "self-test", "time", "evaluate", "store"),
units done and in all."""

SEARCH_S = 240.0
_FLOAT_BLOCKS = "float_blocks"
_ROUNDS = 25
_BUDGET_S = 20.0
_AUTO_BUDGET_S = 90.0
"""With many candidates close to one another a loaded machine needs more rounds to tell them apart."""

_NOT_KEPT = "Compiled code could not be kept in {}: engines work, and start slower."


@dataclass(slots=True)
class _Trial:
    """One candidate on its way through the build. `model` is the graph, and `plan` what became of it where there is one."""

    candidate: Candidate
    model: bytes
    plan: PlanReport | None = None
    compiled: CompiledGraph | None = None
    backend: Backend | None = None
    path: FramePath | None = None
    self_test: SelfTestReport | None = None
    failure: Exception | None = None
    score: Score = field(default_factory=lambda: Score({}, {}))
    verdict: Verdict | None = None

    @property
    def quantized(self) -> bool:
        """Whether the graph holds integers."""
        return self.candidate.precision.startswith("int8")

    @property
    def engine(self) -> bytes:
        """What a runtime opens, and what is stored."""
        return self.model if self.plan is None else self.plan.plan


def build_engine(
    bundle: Bundle,
    *,
    precision: str = "int8",
    backend: str = "auto",
    calibration: Path | None = None,
    recipe: Recipe | None = None,
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
        precision: "int8", "bf16", "fp16" or "fp32"; INT8 engines may compute what is left in floats as bfloat16, on TensorRT as
            float16, where INT8 must also be faster than half and full precision or it is not the one chosen. "auto" tries
            all that this machine has, and INT8 with some blocks in floats, and takes the fastest within the budget.
        backend: "auto" tries every runtime that is here, a name only that one.
        calibration: folder of pictures for INT8 ranges; the bundle's frames when not given.
        recipe: how to quantize, the one that comes with the package when not given.
        threads: of the runtimes; one per physical core when not given.
        store: where engines go; the bundle's by default.
        budget: what an engine may lose against FP32 on the bundle's frames, or else it is not stored; None stores it all the
            same, with a warning, and does not look for blocks to keep in floats.
        plan_options: of TensorRT, besides the precision.
        search_s: about how long "auto" may look for blocks that are better kept in floats; 0 does not look.
        progress: see `Progress`.
    Raises:
        BackendUnavailable: no runtime, not the one named, or the package onnx is missing.
        CalibrationError: no usable frames.
        AccuracyError: no candidate agrees with the FP32 reference, or none is within the budget.
        BuildError: the precision is not to be had here, no candidate could be built, or the disk is full.
        BundleError: the bundle is damaged or lacks a file.
    """
    start = time.time()
    place = store or EngineStore(bundle)
    report = progress or _silent
    tried = candidates(precision, backend=backend, available=available(), device=place.device)
    integers = any(candidate.precision.startswith("int8") for candidate in tried)
    chosen_recipe = recipe or (int8_recipe(bundle) if integers else load_recipe())
    frames: CalibrationSet | None = None
    if integers:
        import_onnx()
        frames = load_calibration(
            bundle,
            calibration,
            count=chosen_recipe.calibration.frames,
            unreadable_share=chosen_recipe.calibration.unreadable_share,
        )
    request = _request(bundle, precision, backend, threads, frames, chosen_recipe)
    if frames is not None and any(candidate.backend in PLAN_BACKENDS for candidate in tried):
        request["plan_recipe_digest"] = _digest(plan_recipe(chosen_recipe))
    asked = plan_options or PlanOptions()
    with place.building(waiting=partial(report, "wait", 0, 1)) as waited:
        if waited and (found := _built_meanwhile(place, request, start)) is not None:
            return _reused(place, found, frames, time.time() - start)
        with ExitStack() as stack:
            models = candidate_graphs(
                bundle, tried, frames, chosen_recipe, threads=threads, progress=report, weak=asked.typing == "weak"
            )
            trials = [_Trial(candidate, model) for candidate, model in models.graphs.items()]
            if precision == AUTO and frames is not None and models.calibrated is not None and budget is not None and search_s:
                found_by_search = propose(
                    bundle,
                    frames,
                    [candidate for candidate in tried if DEVICES[candidate.backend] == "cpu"],
                    recipe=chosen_recipe,
                    calibrated=models.calibrated,
                    budget=budget,
                    limit_s=search_s,
                    threads=threads,
                    progress=report,
                )
                trials += [_Trial(proposal.candidate, proposal.model) for proposal in found_by_search]
            for number, trial in enumerate(trials):
                _build_plan(trial, place, asked, report)
                _open_and_test(trial, bundle, threads, stack)
                report("self-test", number + 1, len(trials))
            passed = [trial for trial in trials if trial.failure is None]
            if not passed:
                raise _nothing_passed(trials)
            baseline, name = _baseline(bundle, threads, stack)
            timed = _time(baseline, passed, bundle, report, budget_s=_AUTO_BUDGET_S if precision == AUTO else _BUDGET_S)
            _score(baseline, passed, bundle, report)
            passed = _gate(baseline, passed, budget)
            seconds = time.time() - start
            ranking = sorted(passed, key=lambda trial: -timed[trial.candidate.name].ratio)
            if precision == AUTO:
                ranking = _best_per_runtime(ranking)
            records = [_record(trial, place, request, asked, timed, baseline.score, bundle, seconds) for trial in ranking]
        kept = True
        for number, (record, trial) in enumerate(zip(records, ranking, strict=True)):
            place.save(record, trial.engine)
            kept = _keep_compiled(place, record, trial) and kept
            report("store", number + 1, len(records))
    return BuildReport(
        record=records[0],
        path=place.folder / records[0].file,
        rows=(_baseline_row(baseline, name, bundle, timed), *(_row(trial, ranking, timed) for trial in trials)),
        graph=_contents(ranking[0]),
        calibration=_calibration(frames),
        seconds=time.time() - start,
        warnings=(*_warnings(frames, ranking[0], trials), *(() if kept else (_NOT_KEPT.format(place.compiled.folder),))),
    )


def _silent(step: str, done: int, total: int) -> None:
    return None


def _request(
    bundle: Bundle, precision: str, backend: str, threads: int | None, frames: CalibrationSet | None, recipe: Recipe
) -> dict[str, Any]:
    """What was asked for, as options of the engines that answer it."""
    if not bundle.has(DEPLOY_MODEL):
        raise BundleError(f"{bundle.path} has no {DEPLOY_MODEL}: engines are built from it. Export the bundle again.")
    options: dict[str, Any] = {"asked_precision": precision, "asked_backend": backend, "threads": threads}
    if frames is not None:
        options |= {"calibration": frames.digest, "recipe": recipe.name, "recipe_digest": _digest(recipe)}
        if bundle.has(QAT_MODEL):
            options["fine_tuned"] = bundle.manifest.files[QAT_MODEL].sha256
    return options


def _digest(recipe: Recipe) -> str:
    return sha256_bytes(repr(recipe).encode())


def _built_meanwhile(store: EngineStore, request: Mapping[str, Any], start: float) -> EngineRecord | None:
    for record in store.list():
        asked = {name: record.options.get(name) for name in request}
        if record.created >= start and asked == dict(request) and store.mismatch(record) is None:
            return record
    return None


def _reused(store: EngineStore, record: EngineRecord, frames: CalibrationSet | None, seconds: float) -> BuildReport:
    baseline = BuildRow(
        precision="fp32",
        backend="onnxruntime",
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
    return BuildReport(record, path, (baseline, row), record.contents, _calibration(frames), seconds, reused=True)


def _build_plan(trial: _Trial, store: EngineStore, asked: PlanOptions, progress: Progress) -> None:
    """What TensorRT makes of a graph; a failure is the candidate's, and others go on."""
    candidate = trial.candidate
    if candidate.backend not in PLAN_BACKENDS:
        return
    options = replace(asked, precision=cast(PlanPrecision, candidate.precision))
    try:
        trial.plan = build_plan(
            find_library(), trial.model, options, cache_folder=store.timings, progress=partial(progress, "plan")
        )
    except (BackendUnavailable, BuildError) as exc:
        trial.failure = exc


def _best_per_runtime(ranking: Sequence[_Trial]) -> list[_Trial]:
    """The fastest of every runtime, in order: the others are not worth their space."""
    best: dict[str, _Trial] = {}
    for trial in ranking:
        best.setdefault(trial.candidate.backend, trial)
    return list(best.values())


def _open_and_test(trial: _Trial, bundle: Bundle, threads: int | None, stack: ExitStack) -> None:
    candidate = trial.candidate
    if trial.failure is not None:
        return
    try:
        trial.compiled = _compile(candidate, trial.engine)
        opened = open_backend(
            candidate.backend, trial.engine, threads=threads, precision=candidate.precision, compiled=trial.compiled
        )
        backend = stack.enter_context(closing(opened))
        if backend.info.loading != "compiled code":
            trial.compiled = None
        trial.self_test = run_self_test(backend, bundle)
    except (AccuracyError, BackendUnavailable, InferenceError) as exc:
        trial.failure = exc
        return
    except BundleError as exc:  # the runtime refuses a graph that is ours: no fault of the bundle
        if not bundle.list(GOLDEN):
            raise
        trial.failure = exc
        return
    trial.backend, trial.path = backend, FramePath(backend, bundle.manifest)


def _compile(candidate: Candidate, model: bytes) -> CompiledGraph | None:
    """Compiled first and then loaded, so that what is tested and timed is what later starts load."""
    try:
        return compile_graph(candidate.backend, model, precision=candidate.precision)
    except (BackendUnavailable, BundleError, OSError):  # opening the graph says it better, or works without
        return None


def _keep_compiled(store: EngineStore, record: EngineRecord, trial: _Trial) -> bool:
    if trial.compiled is None:
        store.compiled.remove(record)
        return True
    try:
        store.compiled.keep(record, trial.compiled)
    except (BuildError, BundleError):
        return False
    return True


def _nothing_passed(trials: Sequence[_Trial]) -> Exception:
    """The accuracy failure if there is one, else a BuildError that lists what happened."""
    failures = [trial.failure for trial in trials if trial.failure is not None]
    if all(isinstance(failure, (AccuracyError, BackendUnavailable)) for failure in failures):
        return next((failure for failure in failures if isinstance(failure, AccuracyError)), failures[0])
    listed = "; ".join(f"{trial.candidate.name}: {trial.failure}" for trial in trials)
    return BuildError(f"No engine could be built. {listed}")


def _baseline(bundle: Bundle, threads: int | None, stack: ExitStack) -> tuple[_Trial, str]:
    """FP32 of the plain graph, in ONNX Runtime where it is here: what anyone can run without this package."""
    name = PLAIN_MODEL if bundle.has(PLAIN_MODEL) else DEPLOY_MODEL
    runtime = "onnxruntime" if available()["onnxruntime"].usable else "openvino"
    trial = _Trial(Candidate(runtime, "fp32"), bundle.read(name))
    backend = stack.enter_context(closing(open_backend(runtime, trial.model, threads=threads, precision="fp32")))
    trial.backend, trial.path = backend, FramePath(backend, bundle.manifest)
    return trial, name


_BASELINE = "baseline"


def _time(baseline: _Trial, passed: Sequence[_Trial], bundle: Bundle, progress: Progress, *, budget_s: float) -> LatencyReport:
    """Whole frames at network size, in turns with the baseline."""
    frame = golden_frame(bundle)
    paths = {_BASELINE: baseline.path, **{trial.candidate.name: trial.path for trial in passed}}
    calls = {name: partial(path, frame) for name, path in paths.items() if path is not None}
    return measure_interleaved(
        calls,
        baseline=_BASELINE,
        rounds=_ROUNDS,
        budget_s=budget_s,
        progress=lambda done, total: progress("time", done, total),
    )


def _score(baseline: _Trial, passed: Sequence[_Trial], bundle: Bundle, progress: Progress) -> None:
    paths = {_BASELINE: baseline.path, **{trial.candidate.name: trial.path for trial in passed}}
    scores = evaluate(
        bundle, {name: path for name, path in paths.items() if path is not None}, reference=_BASELINE, progress=progress
    )
    baseline.score = scores[_BASELINE]
    for trial in passed:
        trial.score = scores[trial.candidate.name]


def _gate(baseline: _Trial, scored: Sequence[_Trial], budget: Budget | None) -> list[_Trial]:
    """The trials that may be stored: all that are within the budget, or simply all where there is none.

    Without labels the usual budget refuses only what is not usable at all: how far answers may differ from FP32's is then a
    guess, and a warning says by how much they do. A budget of a person's own is held in any case.
    """
    for trial in scored if baseline.score.frames else ():
        verdict = trial.verdict = judge(baseline.score, trial.score, name=trial.candidate.name, budget=budget or DEFAULT_BUDGET)
        held = budget is not None and (verdict.labelled or bool(verdict.flaws) or budget != DEFAULT_BUDGET)
        if held and not verdict.passed:
            chance = any(check.close and not check.passed for check in verdict.checks)
            close = f" (a close call on {len(baseline.score.frames)} frames)" if chance else ""
            trial.failure = AccuracyError(f"out of budget: {'; '.join(verdict.failures)}{close}")
    within = [trial for trial in scored if trial.failure is None]
    if not within:
        listed = ". ".join(f"{trial.candidate.name} is {trial.failure}" for trial in scored)
        raise AccuracyError(
            f"{listed}. Nothing was built. Find what suffers with edge-mtl sensitivity, keep it in floats with "
            "--precision auto, calibrate with frames like those the device sees (edge-mtl calibrate), "
            "or build it all the same: --max-drop none"
        )
    return within


def _record(
    trial: _Trial,
    store: EngineStore,
    request: Mapping[str, Any],
    asked: PlanOptions,
    timed: LatencyReport,
    reference: Score,
    bundle: Bundle,
    seconds: float,
) -> EngineRecord:
    candidate, row = trial.candidate, timed[trial.candidate.name]
    graph, digest = bundle.manifest.files[DEPLOY_MODEL].sha256, sha256_bytes(trial.engine)
    version = store.runtimes[candidate.backend]
    options = {**request, _FLOAT_BLOCKS: ", ".join(candidate.float_blocks)} if candidate.float_blocks else dict(request)
    if trial.plan is not None:
        options |= asked.key_values() | {"library": trial.plan.library}
    gpu = store.gpu if DEVICES[candidate.backend] == "cuda" else None
    key = engine_key(
        backend=candidate.backend,
        runtime_version=version,
        device=store.device,
        precision=candidate.precision,
        graph_sha256=graph,
        options=options,
        gpu=gpu,
    )
    return EngineRecord(
        key=key,
        precision=candidate.precision,
        backend=candidate.backend,
        runtime_version=version,
        device=store.device,
        graph_sha256=graph,
        file=engine_file(key, digest, candidate.backend),
        sha256=digest,
        size=len(trial.engine),
        options=options,
        build_seconds=round(seconds, 2),
        latency_ms=round(row.median_ms, 3),
        baseline_latency_ms=round(timed[_BASELINE].median_ms, 3),
        ratio=round(row.ratio, 3),
        self_test=trial.self_test.to_dict() if trial.self_test is not None else {},
        agreement=trial.score.agreement,
        accuracy={"fp32": reference.accuracy, "this": trial.score.accuracy},
        created=time.time(),
        gpu=gpu,
        contents=_contents(trial),
    )


def _baseline_row(baseline: _Trial, name: str, bundle: Bundle, timed: LatencyReport) -> BuildRow:
    row = timed[_BASELINE]
    return BuildRow(
        precision="fp32",
        backend=baseline.candidate.backend,
        reason=f"{name} as anyone can run it",
        baseline=True,
        latency_ms=row.median_ms,
        latency_p90_ms=row.p90_ms,
        ratio=1.0,
        size_bytes=bundle.manifest.files[name].size,
        agreement=baseline.score.agreement,
        accuracy=baseline.score.accuracy,
    )


def _row(trial: _Trial, ranking: Sequence[_Trial], timed: LatencyReport) -> BuildRow:
    candidate, winner = trial.candidate, ranking[0]
    row = BuildRow(candidate.precision, candidate.backend, reason=str(trial.failure), size_bytes=len(trial.engine))
    if trial.failure is not None:
        return row
    latency = timed[candidate.name]
    chosen = trial is winner
    reason = "the fastest that passed its self-test" if chosen else f"passed, but {winner.candidate.name} is faster"
    if candidate.float_blocks:
        reason = f"{reason}; keeps in floats: {', '.join(candidate.float_blocks)}"
    return replace(
        row,
        reason=reason,
        chosen=chosen,
        stored=any(trial is kept for kept in ranking),
        latency_ms=latency.median_ms,
        latency_p90_ms=latency.p90_ms,
        ratio=latency.ratio,
        agreement=trial.score.agreement,
        accuracy=trial.score.accuracy,
        self_test=trial.self_test.to_dict() if trial.self_test is not None else {},
    )


def _contents(winner: _Trial) -> str:
    if winner.plan is not None:
        return winner.plan.describe()
    return facts(winner.model).describe() if winner.quantized else "the bundle's deploy graph"


def _calibration(frames: CalibrationSet | None) -> dict[str, Any]:
    if frames is None:
        return {}
    return {"count": len(frames.frames), "source": frames.source, "digest": frames.digest, "skipped": list(frames.skipped)}


def _warnings(frames: CalibrationSet | None, winner: _Trial, trials: Sequence[_Trial]) -> tuple[str, ...]:
    found = []
    if frames is not None and frames.skipped:
        found.append(f"Calibration pictures that cannot be read were left out: {', '.join(frames.skipped)}")
    found += [f"{trial.candidate.name} was left out: {trial.failure}" for trial in trials if trial.failure is not None]
    if winner.verdict is not None and not winner.verdict.passed:
        lost = "; ".join(winner.verdict.failures)
        found.append(f"{winner.candidate.name} loses more than it should, and was built all the same. {lost}.")
    if winner.quantized and (winner.verdict is None or not winner.verdict.labelled):
        found.append(
            "The bundle has no labelled frames: what INT8 costs in accuracy is not known here. Measure it with "
            "edge-mtl verify --data DIR"
        )
    if not winner.quantized and any(trial.quantized for trial in trials):
        found.append(
            f"INT8 does not pay on this machine: {winner.candidate.name} is faster within the budget, so that is built."
        )
    return tuple(found)
