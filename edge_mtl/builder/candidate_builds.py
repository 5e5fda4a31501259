"""Candidates on their way to an engine: made, opened, self-tested, timed, scored and judged.

Knows one step of each at a time; the order of the steps is the pipeline's, what becomes of them the outcome's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial

from edge_mtl.backends import Backend, CompiledGraph, available, compile_graph, open_backend, spec_of
from edge_mtl.backends.reference import reference_runtime
from edge_mtl.bench.latency import LatencyReport, measure_interleaved
from edge_mtl.builder.candidates import Candidate
from edge_mtl.builder.converters import BuiltPlan, converter_of
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.bundle import GOLDEN, OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.cuda import CudaError
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError, BundleError, InferenceError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget, Verdict, judge
from edge_mtl.evaluation.exact_arithmetic import require_exact
from edge_mtl.evaluation.labelled_frames import Score, evaluate
from edge_mtl.evaluation.self_test import SelfTestReport, golden_frame, run_self_test
from edge_mtl.inference_pipeline import InferencePipeline

__all__ = [
    "BASELINE",
    "CandidateBuild",
    "Progress",
    "build_candidate_plan",
    "check_accuracy",
    "nothing_passed",
    "open_and_test",
    "open_baseline",
    "score_builds",
    "time_builds",
]

Progress = Callable[[str, int, int], None]
"""Called with the step ("wait", "calibrate", "quantize", "search", "plan", "self-test", "time", "evaluate", "store"),
units done and in all."""

BASELINE = "baseline"
"""Name of FP32 of the reference ONNX among what is timed and scored."""


@dataclass(slots=True)
class CandidateBuild:
    """One candidate on its way through the build. `model` is the graph, and `plan` what became of it where there is one."""

    candidate: Candidate
    model: bytes
    plan: BuiltPlan | None = None
    compiled: CompiledGraph | None = None
    backend: Backend | None = None
    path: InferencePipeline | None = None
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


def build_candidate_plan(
    build: CandidateBuild, store: EngineStore, asked: PlanOptions, progress: Progress, *, device: int = 0
) -> None:
    """What a runtime that takes no graphs makes of one for the GPU `device`; a failure is the candidate's, others go on."""
    candidate = build.candidate
    converter = converter_of(candidate.backend)
    if converter is None:
        return
    try:
        build.plan = converter.convert(
            build.model,
            precision=candidate.precision,
            asked=asked,
            cache_folder=store.timings,
            device=device,
            progress=partial(progress, "plan"),
        )
    except (BackendUnavailable, BuildError, CudaError) as exc:
        build.failure = exc


def open_and_test(build: CandidateBuild, bundle: Bundle, threads: int | None, stack: ExitStack, *, device: int = 0) -> None:
    candidate = build.candidate
    if build.failure is not None:
        return
    try:
        build.compiled = _compile(candidate, build.engine)
        opened = open_backend(
            candidate.backend,
            build.engine,
            threads=threads,
            precision=candidate.precision,
            compiled=build.compiled,
            device=device,
        )
        backend = stack.enter_context(closing(opened))
        if backend.info.loading != "compiled code":
            build.compiled = None
        build.self_test = run_self_test(backend, bundle)
        if build.quantized and spec_of(candidate.backend).device == "cpu":
            require_exact(backend, build.model, bundle, threads=threads)
    except (AccuracyError, BackendUnavailable, InferenceError) as exc:
        build.failure = exc
        return
    except BundleError as exc:  # the runtime refuses a graph that is ours: no fault of the bundle
        if not bundle.list(GOLDEN):
            raise
        build.failure = exc
        return
    build.backend, build.path = backend, InferencePipeline(backend, bundle.manifest)


def _compile(candidate: Candidate, model: bytes) -> CompiledGraph | None:
    """Compiled first and then loaded, so that what is tested and timed is what later starts load."""
    try:
        return compile_graph(candidate.backend, model, precision=candidate.precision)
    except (BackendUnavailable, BundleError, OSError):  # opening the graph says it better, or works without
        return None


def nothing_passed(builds: Sequence[CandidateBuild]) -> Exception:
    """The accuracy failure if there is one, else a BuildError that lists what happened."""
    failures = [build.failure for build in builds if build.failure is not None]
    if all(isinstance(failure, (AccuracyError, BackendUnavailable)) for failure in failures):
        return next((failure for failure in failures if isinstance(failure, AccuracyError)), failures[0])
    listed = "; ".join(f"{build.candidate.name}: {build.failure}" for build in builds)
    return BuildError(f"No engine could be built. {listed}")


def open_baseline(bundle: Bundle, threads: int | None, stack: ExitStack) -> tuple[CandidateBuild, str]:
    """FP32 of the reference ONNX, in the reference runtime where it is here: what anyone can run without this package."""
    name = REFERENCE_ONNX if bundle.has(REFERENCE_ONNX) else OPTIMIZED_ONNX
    runtime = reference_runtime(available())
    build = CandidateBuild(Candidate(runtime, "fp32"), bundle.read(name))
    backend = stack.enter_context(closing(open_backend(runtime, build.model, threads=threads, precision="fp32")))
    build.backend, build.path = backend, InferencePipeline(backend, bundle.manifest)
    return build, name


def time_builds(
    baseline: CandidateBuild,
    passed: Sequence[CandidateBuild],
    bundle: Bundle,
    progress: Progress,
    *,
    rounds: int,
    budget_s: float,
) -> LatencyReport:
    """Whole frames at network size, interleaved with the baseline."""
    frame = golden_frame(bundle)
    paths = {BASELINE: baseline.path, **{build.candidate.name: build.path for build in passed}}
    calls = {name: partial(path, frame) for name, path in paths.items() if path is not None}
    return measure_interleaved(
        calls,
        baseline=BASELINE,
        rounds=rounds,
        budget_s=budget_s,
        progress=lambda done, total: progress("time", done, total),
    )


def score_builds(baseline: CandidateBuild, passed: Sequence[CandidateBuild], bundle: Bundle, progress: Progress) -> None:
    paths = {BASELINE: baseline.path, **{build.candidate.name: build.path for build in passed}}
    scores = evaluate(
        bundle, {name: path for name, path in paths.items() if path is not None}, reference=BASELINE, progress=progress
    )
    baseline.score = scores[BASELINE]
    for build in passed:
        build.score = scores[build.candidate.name]


def check_accuracy(baseline: CandidateBuild, scored: Sequence[CandidateBuild], budget: Budget | None) -> list[CandidateBuild]:
    """The builds that may be stored: all that are within the budget, or simply all where there is none.

    Without labels the usual budget refuses only what is not usable at all: how far answers may differ from FP32's is then a
    guess, and a warning says by how much they do. A budget of a person's own is held in any case.
    """
    for build in scored if baseline.score.frames else ():
        verdict = build.verdict = judge(baseline.score, build.score, name=build.candidate.name, budget=budget or DEFAULT_BUDGET)
        held = budget is not None and (verdict.labelled or bool(verdict.flaws) or budget != DEFAULT_BUDGET)
        if held and not verdict.passed:
            chance = any(check.close and not check.passed for check in verdict.checks)
            close = f" (a close call on {len(baseline.score.frames)} frames)" if chance else ""
            build.failure = AccuracyError(f"out of budget: {'; '.join(verdict.failures)}{close}")
    within = [build for build in scored if build.failure is None]
    if not within:
        listed = ". ".join(f"{build.candidate.name} is {build.failure}" for build in scored)
        raise AccuracyError(
            f"{listed}. Nothing was built. Find what suffers with edge-mtl sensitivity, keep it in floating point with "
            "edge-mtl build-engine --precision auto, calibrate with frames like those the device sees (edge-mtl calibrate), "
            "or take any loss: --max-drop none"
        )
    return within
