"""Which blocks to keep in floating point, so that an INT8 engine is within its budget and as fast as it gets on this machine.

Greedy from the sensitivity of the blocks, with few graphs that are really measured: blocks that do not pay go back to
floats, and where the budget is missed, so do the noisiest until it is met. Knows the order of steps; which of the
proposals is the fastest is measured where all engines are, in `edge_mtl.builder.pipeline`.

What floats are (FP32, bfloat16) is one choice per engine: neither runtime takes it per layer on a CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_mtl.backends import open_backend
from edge_mtl.backends.reference import REFERENCE_RUNTIME
from edge_mtl.builder.candidates import Candidate, target_of
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import OWN_FRAMES, CalibrationSet
from edge_mtl.evaluation.budget import Budget, judge
from edge_mtl.evaluation.labelled_frames import LabelledFrame, frames_to_judge_on
from edge_mtl.evaluation.sensitivity.blocks import Block, find_blocks, without
from edge_mtl.evaluation.sensitivity.measure import measure_sensitivity
from edge_mtl.evaluation.sensitivity.report import BlockSensitivity, Sensitivity
from edge_mtl.evaluation.sensitivity.score import ReferenceEvaluator
from edge_mtl.quantization.learned import int8_graph
from edge_mtl.quantization.quantize import Calibrated, insert_qdq
from edge_mtl.quantization.recipes import Recipe, Target

__all__ = ["Proposal", "propose", "smallest_fitting"]

Progress = Callable[[str, int, int], None]

_ROUNDS = 8
_FRAMES = 12
_STRIDE = 2
_SENSITIVITY_SHARE = 0.7
"""Of the time limit, how much sensitivity may take; the rest goes to checking assignments."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An assignment that is worth building.

    Attributes:
        candidate: runtime and precision, with the float blocks as its variant.
        model: the graph.
        float_blocks: what stays in floating point besides what the recipe leaves there.
        why: a sentence.
    """

    candidate: Candidate
    model: bytes
    float_blocks: tuple[str, ...]
    why: str


def propose(
    bundle: Bundle,
    calibration: CalibrationSet,
    tried: Sequence[Candidate],
    *,
    recipe: Recipe,
    calibrated: Calibrated,
    budget: Budget,
    limit_s: float,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Proposal]:
    """Assignments of blocks to integers and floats besides the recipe's own, for every runtime among `tried`.

    Args:
        tried: what is built anyway; per runtime the last of its INT8 candidates gives the precision of the floats and the bits
            of the weights.
        limit_s: about how long all of this may take.
        progress: called with ("search", steps done, steps in all).
    Raises:
        BuildError, BackendUnavailable, BundleError: as their parts say.
    """
    report = progress or _silent
    kinds = {candidate.backend: candidate for candidate in tried if candidate.precision.startswith("int8")}
    frames = frames_to_judge_on(bundle, calibration.frames, count=_FRAMES)
    end = time.monotonic() + limit_s
    proposals = []
    for number, candidate in enumerate(kinds.values()):
        share = max(end - time.monotonic(), 0.0) / (len(kinds) - number)
        setting = _Setting(bundle, candidate, recipe, calibrated, threads, calibration.source == OWN_FRAMES)
        found = measure_sensitivity(
            bundle,
            calibration,
            frames,
            recipe=recipe,
            target=setting.target,
            calibrated=calibrated,
            floats="bf16" if candidate.precision.endswith("bf16") else "fp32",
            rounds=_ROUNDS,
            threads=threads,
            limit_s=share * _SENSITIVITY_SHARE,
            progress=lambda step, done, total: report("search", done, total),
        )
        proposals += _for_runtime(setting, found, frames, budget, end=time.monotonic() + share * (1 - _SENSITIVITY_SHARE))
    return proposals


def smallest_fitting(count: int, fits: Callable[[int], bool]) -> int | None:
    """The smallest of 0..`count` for which `fits` is true, by bisection; None if it is not even for `count`.

    `fits` should be true for everything above a number for which it is; where it is not, one that fits is still found.
    """
    if fits(0):
        return 0
    if count == 0 or not fits(count):
        return None
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class _Setting:
    """What all assignments for one runtime share."""

    bundle: Bundle
    candidate: Candidate
    recipe: Recipe
    calibrated: Calibrated
    threads: int | None
    own_frames: bool

    @property
    def target(self) -> Target:
        return target_of(self.candidate.backend)

    @property
    def source(self) -> bytes:
        """What INT8 is made from; FP32, which it is judged against, is the optimized ONNX."""
        return int8_graph(self.bundle, own_frames=self.own_frames)

    def blocks(self) -> dict[str, Block]:
        return {block.name: block for block in find_blocks(self.source, self.recipe, target=self.target)}

    def graph(self, kept: Sequence[Block]) -> bytes:
        changed = dataclasses.replace(self.recipe, layers=(*self.recipe.layers, *without(tuple(kept))))
        return insert_qdq(self.source, self.calibrated, recipe=changed, target=self.target, bits=self.candidate.weight_bits)


def _for_runtime(
    setting: _Setting, found: Sensitivity, frames: Sequence[LabelledFrame], budget: Budget, *, end: float
) -> list[Proposal]:
    """Up to two: what meets the budget, and that without blocks that do not pay."""
    blocks = setting.blocks()
    judge_it = _Judge(setting, frames, budget)
    noisy = [row.name for row in found.ranked()]
    idle = [row.name for row in found.rows if row.gain_high is not None and row.gain_high < 0.0]
    wanted: dict[frozenset[str], str] = {}
    if judge_it.fits(()):
        base: frozenset[str] | None = frozenset()
    else:
        count = smallest_fitting(
            len(noisy) - 1,
            lambda number: (
                time.monotonic() < end and judge_it.fits([blocks[name] for name in noisy[:number]]) if number else False
            ),
        )
        base = None if count is None else frozenset(noisy[:count])
        if base:
            wanted[base] = "within the budget"
    if base is not None and idle:
        lean = base | frozenset(idle)
        if len(lean) < len(blocks):
            wanted[lean] = "blocks that do not pay stay in floating point"
    return [_proposal(setting, found.rows, blocks, kept, why) for kept, why in wanted.items()]


def _proposal(
    setting: _Setting, rows: Sequence[BlockSensitivity], blocks: dict[str, Block], kept: frozenset[str], why: str
) -> Proposal:
    names = tuple(row.name for row in rows if row.name in kept)
    candidate = dataclasses.replace(setting.candidate, float_blocks=names)
    return Proposal(candidate, setting.graph([blocks[name] for name in names]), names, why)


class _Judge:
    """Whether an assignment is within the budget on the labelled frames, or in agreement with FP32 where none are."""

    def __init__(self, setting: _Setting, frames: Sequence[LabelledFrame], budget: Budget) -> None:
        self._setting, self._budget = setting, budget
        with contextlib.closing(
            open_backend(REFERENCE_RUNTIME, setting.bundle.read(OPTIMIZED_ONNX), threads=setting.threads)
        ) as floats:
            feed = next(iter(floats.inputs))
            self._evaluator = ReferenceEvaluator(
                setting.bundle, frames, lambda planes: floats.run({feed: planes}), stride=_STRIDE
            )
        self._reference = self._evaluator.reference().score

    def fits(self, kept: Sequence[Block]) -> bool:
        """Whether the graph with `kept` in floating point is."""
        setting = self._setting
        model, precision = setting.graph(kept), setting.candidate.precision
        opened = open_backend(setting.candidate.backend, model, threads=setting.threads, precision=precision)
        with contextlib.closing(opened):
            feed = next(iter(opened.inputs))
            found = self._evaluator.measure(lambda number: opened.run({feed: self._evaluator.planes(number)}))
        return judge(self._reference, found.score, name=setting.candidate.name, budget=self._budget).passed


def _silent(step: str, done: int, total: int) -> None:
    return None
