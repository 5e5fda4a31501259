"""What a graph's answers lose against FP32, head by head: SQNR of the raw maps, accuracy and agreement of the finished ones.

Knows outputs of "host" graphs, frames and metrics; opens no runtime and no files. FP32's answers are computed once and
kept, so that many graphs can be held against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.bundle import Bundle
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import LabelledFrame
from edge_mtl.evaluation.scores import Score, Scorer
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import Intrinsics, letterbox
from edge_mtl.tasks import kind_of
from edge_mtl.tasks.areas import CameraChange, camera_change
from edge_mtl.tasks.finishing import Answer, finish, host_outputs

__all__ = ["Measured", "ReferenceEvaluator"]

Array = np.ndarray
Outputs = Mapping[str, Array]

_LARGEST_DB = 150.0
"""Reported where nothing differs, in place of infinity."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One graph.

    Attributes:
        score: accuracy and agreement.
        sqnr_db: by task, 10 log10 of FP32's power over that of the difference, over all frames and the values that count
            (`Kind.noise_masks`); channels of maps are centred first, and what is no map in each frame, or their constant part
            would hide the noise.
    """

    score: Score
    sqnr_db: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Kept:
    item: LabelledFrame
    change: CameraChange | None
    outputs: Outputs
    answer: Answer
    targets: Mapping[str, Any]


class ReferenceEvaluator:
    """FP32's answers on some frames, and how far others are from them.

    Args:
        frames: labelled or not, of the network's size.
        run: (1, 3, H, W) float32 planes of 0..255 -> outputs of the FP32 graph.
        stride: score every so many pixels along both axes: metrics cost as much as a small network, and pixels beside one
            another tell the same. SQNR is of all pixels.
        progress: called with ("reference", frames done, frames in all).
    Raises:
        BuildError: there are no frames, or a frame of another size.
    """

    def __init__(
        self,
        bundle: Bundle,
        frames: Iterable[LabelledFrame],
        run: Callable[[Array], Outputs],
        *,
        stride: int = 1,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._tasks = bundle.manifest.tasks
        self._size = (bundle.manifest.input.height, bundle.manifest.input.width)
        self._outputs = host_outputs(self._tasks, self._size)
        self._canonical = Intrinsics.of(bundle.manifest.canonical_intrinsics)
        self._stride, self._pool = stride, BufferPool()
        self._kept: list[_Kept] = []
        chosen = list(frames)
        if not chosen:
            raise BuildError(f"{bundle.path} has no evaluation frames to measure on. Export the bundle again.")
        for number, item in enumerate(chosen):
            outputs = {name: np.array(value) for name, value in run(self._planes(item.frame)).items()}
            change = None if item.intrinsics is None else camera_change(Intrinsics.of(item.intrinsics), self._canonical)
            answer = self._finished(outputs, change, BufferPool())
            thinned = {task: kind_of(self._tasks[task]).thin_truth(truth, stride) for task, truth in item.targets.items()}
            self._kept.append(_Kept(item, change, outputs, answer, thinned))
            if progress is not None:
                progress("reference", number + 1, len(chosen))
        self._power = self._powers()

    def __len__(self) -> int:
        return len(self._kept)

    def planes(self, number: int) -> Array:
        """(1, 3, H, W) float32 of a frame."""
        return self._planes(self._kept[number].item.frame)

    def reference(self) -> Measured:
        """FP32 against itself: its accuracy."""
        return self.measure(lambda number: self._kept[number].outputs)

    def measure(self, answers: Callable[[int], Outputs]) -> Measured:
        """Score the answers to every frame; `answers` is called with the frame's number."""
        scorer = Scorer(self._tasks)
        noise = dict.fromkeys(self._power, 0.0)
        for number, kept in enumerate(self._kept):
            outputs = answers(number)
            for task in noise:
                for name, counted in self._counting(task, kept).items():
                    difference = outputs[name].astype(np.float64) - kept.outputs[name]
                    noise[task] += float(np.square(difference[counted]).sum())
            found = self._finished(outputs, kept.change, self._pool)
            scorer.update(kept.item.name or str(number), found, kept.targets, kept.answer)
        return Measured(scorer.score(), {task: _decibels(self._power[task], noise[task]) for task in noise})

    def _planes(self, frame: Array) -> Array:
        if frame.shape[:2] != self._size:
            raise BuildError(f"a frame should have {self._size[0]}x{self._size[1]} pixels; found {frame.shape[:2]}")
        return np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)

    def _finished(self, outputs: Outputs, change: CameraChange | None, pool: BufferPool) -> Answer:
        box = letterbox(self._size, self._size)
        answer = finish(self._tasks, outputs, box, placement="host", output_size="network", change=change, pool=pool)
        if self._stride == 1:
            return answer
        results = answer.results.items()
        thinned = {task: kind_of(result.spec).thin(result, self._stride) for task, result in results}
        return Answer(thinned, answer.bad_values)

    def _counting(self, task: str, kept: _Kept) -> dict[str, Array]:
        """By output of a task, which of its values count: see `Kind.noise_masks`."""
        masks = kind_of(self._tasks[task]).noise_masks(self._tasks[task], kept.outputs)
        return {name: masks.get(name, np.ones(kept.outputs[name].shape, bool)) for name in self._outputs[task]}

    def _powers(self) -> dict[str, float]:
        powers = {}
        for task, names in self._outputs.items():
            powers[task] = 0.0
            masks = [self._counting(task, kept) for kept in self._kept]
            for name in names:
                stacked = np.concatenate([kept.outputs[name] for kept in self._kept]).astype(np.float64)
                powers[task] += _power(stacked, np.concatenate([mask[name] for mask in masks]))
        return powers


def _power(values: Array, counted: Array) -> float:
    """Sum of squares, of (N, C, h, w) without the mean of each channel, of (N, C) without each row's; where only some values
    count, which may be very few, of these as they are."""
    if not counted.all():
        return float(np.square(values[counted]).sum())
    axes = (0, *range(2, values.ndim)) if values.ndim > 2 else (1,)
    return float(np.square(values - values.mean(axis=axes, keepdims=True)).sum())


def _decibels(power: float, noise: float) -> float:
    if noise <= power * 10 ** (-_LARGEST_DB / 10):
        return _LARGEST_DB
    return float(10.0 * np.log10(max(power, 1e-30) / noise))
