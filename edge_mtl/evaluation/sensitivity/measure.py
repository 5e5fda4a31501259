"""How much each block of a network suffers from integers, and gains: quantized alone, scored per head, timed interleaved.

FP32's answers and the activations at a few cuts are computed once; a block is then run from the cut before it. Rows are
written as they are found, so that a run that was stopped continues where it was. Knows the order of steps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edge_mtl.backends import BACKENDS, Backend, available, open_backend, style_of
from edge_mtl.backends.reference import CPU_STYLE, REFERENCE_RUNTIME
from edge_mtl.bench.latency import LatencyReport, LatencyRow, measure_interleaved
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import OWN_FRAMES, CalibrationSet
from edge_mtl.device import fingerprint
from edge_mtl.evaluation.labelled_frames import LabelledFrame
from edge_mtl.evaluation.scores import drops
from edge_mtl.evaluation.sensitivity.blocks import Block, Level, find_blocks, only
from edge_mtl.evaluation.sensitivity.prefix import Cut, choose_cuts, cut_before, suffix
from edge_mtl.evaluation.sensitivity.report import BlockSensitivity, Sensitivity, load_sensitivity, save_sensitivity
from edge_mtl.evaluation.sensitivity.score import ReferenceEvaluator
from edge_mtl.files import sha256_bytes
from edge_mtl.onnx_graph.model import parse
from edge_mtl.quantization.learned import QAT_MODEL, int8_graph
from edge_mtl.quantization.quantize import Calibrated, calibrate, equalized, insert_qdq
from edge_mtl.quantization.recipes import Recipe, Target
from edge_mtl.quantization.statistics import open_session
from edge_mtl.quantization.weights import weight_bits

__all__ = ["measure_sensitivity"]

Array = np.ndarray
Progress = Callable[[str, int, int], None]

_STRIDE = 3
_BATCH = 6
"""So many graphs are open at a time while they are timed."""


def measure_sensitivity(
    bundle: Bundle,
    calibration: CalibrationSet,
    frames: Sequence[LabelledFrame],
    *,
    recipe: Recipe,
    target: Target = CPU_STYLE,
    level: Level = "block",
    calibrated: Calibrated | None = None,
    floats: str = "fp32",
    rounds: int = 12,
    threads: int | None = None,
    limit_s: float | None = None,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Quantize every block alone, score it and time it.

    Args:
        frames: labelled or not, of the network's size.
        target: the Q/DQ style that is judged. One that no runtime on the processor has is scored in ONNX Runtime and not timed.
        calibrated: ranges, if they are known already.
        floats: what the other layers compute in while blocks are timed: "fp32", or "bf16" where OpenVINO has it.
        rounds: timed calls of each block; 0 times nothing.
        limit_s: stop after about so many seconds with what was found until then.
        resume: JSON file that rows are written to as they are found, and taken from where it is of the same run.
        progress: called with the step ("calibrate", "reference", "prefix", "blocks", "time"), units done and in all.
    Raises:
        CalibrationError, BuildError, BackendUnavailable, BundleError: as their parts say.
    """
    report = progress or _silent
    end = float("inf") if limit_s is None else time.monotonic() + limit_s
    deploy = int8_graph(bundle, own_frames=calibration.source == OWN_FRAMES)
    blocks = find_blocks(deploy, recipe, target=target, level=level)
    own = _on_cpu(target)
    backend = own or REFERENCE_RUNTIME
    key = _key(bundle, calibration, frames, recipe, target, level, backend, floats, threads)
    done = load_sensitivity(resume, key)
    ranges = calibrated or calibrate(
        deploy, calibration.material, recipe=dataclasses.replace(recipe, targets=(target,)), threads=threads, progress=report
    )
    models = {block.name: partial(_alone, deploy, ranges, recipe, target, block) for block in blocks}
    with contextlib.closing(open_backend(REFERENCE_RUNTIME, deploy, threads=threads)) as opened:
        feed = next(iter(opened.inputs))

        def run(planes: Array) -> Mapping[str, Array]:
            return opened.run({feed: planes})

        evaluator = ReferenceEvaluator(bundle, frames, run, stride=_STRIDE, progress=report)
    reference = evaluator.reference()
    rows = {row.name: row for row in (done.rows if done is not None else ())}
    result = Sensitivity(
        key=key,
        bundle=f"{bundle.name} revision {bundle.manifest.revision}",
        target=target,
        level=level,
        backend=backend if rounds and own is not None else "",
        frames=len(evaluator),
        reference=dict(reference.score.accuracy),
        baseline_ms=done.baseline_ms if done is not None else None,
        rows=tuple(rows.values()),
    )
    left = [block for block in blocks if block.name not in rows]
    prefix = _Prefix(equalized(deploy, ranges), choose_cuts(deploy), left, evaluator, threads=threads, progress=report)
    for number, block in enumerate(left):
        if time.monotonic() > end:
            break
        model, cut = models[block.name](), prefix.cut(block)
        runnable = model if cut is None else suffix(model, deploy, cut)
        with contextlib.closing(open_backend(backend, runnable, threads=threads, precision="int8")) as alone:
            found = evaluator.measure(partial(prefix.run, alone, cut))
        lost = {name: drop.value for name, drop in drops(reference.score, found.score).items()}
        rows[block.name] = BlockSensitivity(
            name=block.name,
            layers=len(block.layers),
            sqnr_db=found.sqnr_db,
            lost=lost,
            agreement=dict(found.score.agreement),
            start=0.0 if cut is None else cut.work,
        )
        result = dataclasses.replace(result, rows=tuple(rows[name] for name in models if name in rows))
        save_sensitivity(resume, result)
        report("blocks", number + 1, len(left))
    if rounds and own is not None:
        timer = _Timer(deploy, models, evaluator.planes(0), backend=backend, floats=floats, rounds=rounds, threads=threads)
        result = timer.complete(result, resume=resume, end=end, progress=report)
    return result


def _on_cpu(target: Target) -> str | None:
    """The first runtime on the processor that wants this Q/DQ style; None where there is none. Raises BuildError: unknown."""
    style = style_of(target)
    return next((name for name, spec in BACKENDS.items() if spec.qdq == style and spec.device == "cpu"), None)


def _alone(deploy: bytes, ranges: Calibrated, recipe: Recipe, target: Target, block: Block) -> bytes:
    """The graph with nothing but `block` in INT8."""
    alone = dataclasses.replace(recipe, layers=(*recipe.layers, *only(block)))
    return insert_qdq(deploy, ranges, recipe=alone, target=target)


class _Prefix:
    """FP32's activations at the cuts that some blocks start from, for every frame; `deploy` has its scales moved already."""

    def __init__(
        self,
        deploy: bytes,
        cuts: Sequence[Cut],
        blocks: Sequence[Block],
        evaluator: ReferenceEvaluator,
        *,
        threads: int | None,
        progress: Progress,
    ) -> None:
        self._cuts = {block.name: cut_before(deploy, block.layers, cuts) for block in blocks}
        self._evaluator = evaluator
        names = sorted({name for cut in self._cuts.values() if cut is not None for name in cut.tensors})
        self._kept: list[dict[str, Array]] = []
        if not names:
            return
        session = open_session(parse(deploy, name="the optimized ONNX"), names, threads, why="Measuring sensitivity")
        feed = session.get_inputs()[0].name
        for number in range(len(evaluator)):
            values = session.run(names, {feed: evaluator.planes(number)})
            self._kept.append(dict(zip(names, values, strict=True)))
            progress("prefix", number + 1, len(evaluator))

    def cut(self, block: Block) -> Cut | None:
        """Where the runs of `block` start; None at the image."""
        return self._cuts[block.name]

    def run(self, backend: Backend, cut: Cut | None, number: int) -> dict[str, Array]:
        """Outputs of a graph that starts at `cut`, for frame `number`."""
        names = list(backend.inputs)
        if cut is None:
            return backend.run({names[0]: self._evaluator.planes(number)})
        return backend.run({name: self._kept[number][name] for name in names})


@dataclass(frozen=True, slots=True)
class _Timer:
    """Times every block's graph interleaved with the float graph.

    Attributes:
        models: the graph with one block in INT8, by the block's name.
        planes: the image that is run.
    """

    deploy: bytes
    models: Mapping[str, Callable[[], bytes]]
    planes: Array
    backend: str
    floats: str
    rounds: int
    threads: int | None

    def complete(self, result: Sensitivity, *, resume: Path | None, end: float, progress: Progress) -> Sensitivity:
        """The gain of every row that lacks it, until `end`."""
        missing = [row.name for row in result.rows if row.gain is None]
        for start in range(0, len(missing), _BATCH):
            if time.monotonic() > end:
                break
            names = missing[start : start + _BATCH]
            latency = self._measure(names)
            result = dataclasses.replace(
                result,
                baseline_ms=latency[""].median_ms,
                rows=tuple(_with_gain(row, latency[row.name]) if row.name in names else row for row in result.rows),
            )
            save_sensitivity(resume, result)
            progress("time", start + len(names), len(missing))
        return result

    def _measure(self, names: Sequence[str]) -> LatencyReport:
        """The blocks `names` and, as "", the float graph."""
        mixed = "int8" if self.floats == "fp32" else f"int8+{self.floats}"
        with contextlib.ExitStack() as stack:
            calls: dict[str, Callable[[], object]] = {}
            for name, model, precision in (
                ("", self.deploy, self.floats),
                *((name, self.models[name](), mixed) for name in names),
            ):
                opened = open_backend(self.backend, model, threads=self.threads, precision=precision)
                stack.enter_context(contextlib.closing(opened))
                calls[name] = partial(opened.run, {next(iter(opened.inputs)): self.planes})
            return measure_interleaved(calls, baseline="", rounds=self.rounds)


def _with_gain(row: BlockSensitivity, latency: LatencyRow) -> BlockSensitivity:
    return dataclasses.replace(row, gain=1.0 - 1.0 / latency.ratio, gain_high=1.0 - 1.0 / latency.ratio_high)


def _key(
    bundle: Bundle,
    calibration: CalibrationSet,
    frames: Sequence[LabelledFrame],
    recipe: Recipe,
    target: Target,
    level: str,
    backend: str,
    floats: str,
    threads: int | None,
) -> str:
    pixels = sha256_bytes(b"".join(np.ascontiguousarray(item.frame).tobytes() for item in frames))
    graph = [bundle.entry(name).sha256 for name in (OPTIMIZED_ONNX, QAT_MODEL) if bundle.has(name)]
    version = available()[backend].version
    bits = weight_bits(recipe.weights.reduce_range, target, fingerprint())[-1]
    content = [graph, calibration.digest, pixels, repr(recipe), target, level, backend, floats, version, threads, bits]
    return sha256_bytes(json.dumps(content).encode())


def _silent(step: str, done: int, total: int) -> None:
    return None
