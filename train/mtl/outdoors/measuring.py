"""One network on the frames of one domain: what `train/evaluate.py` measures of them, and whether confidences knew.

Measures come from `evaluate_fully`; what is kept of every frame besides is what the bootstrap and the curves need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import DepthMap, LabelMap, NormalMap, Specs, kind_of, scoped
from edge_mtl.tasks.consistency import depth_normal_angle
from edge_mtl.tasks.label_metric import CalibrationCurve
from edge_mtl.tasks.points import first_of
from mtl.datasets.frame import FrameSource
from mtl.evaluate import Judged, evaluate_fully, unlike
from mtl.evaluation_targets import EvaluationTarget
from mtl.outdoors.statistics import auroc_of_counts, calibration_error

__all__ = ["FAR_OFF", "DomainMeasures", "headline_keys", "measure_domain", "pooled"]

Array = np.ndarray

FAR_OFF = 0.25
"""Depth with a larger relative error is wrong."""

_DOUBT_DECADES, _DOUBT_BINS = 7.0, 350
"""Doubt is 1 - confidence from 1e-7 to 1, in even steps of its logarithm: most of it is near 0, where others see nothing."""
_ANGLE_BINS = 360
"""Of angles from 0 to 180 degrees."""


@dataclass(frozen=True, slots=True)
class DomainMeasures:
    """A network on the frames of a domain.

    Attributes:
        specs: of all tasks of the frames, those of the network in its own words: what `scoped` needs.
        tasks: those that were measured.
        measures, details: as of `mtl.evaluate.Evaluation`.
        statistics: by task, what each frame leaves for `Kind.resample`.
        doubt: by task of labels, (F, 2, B): pixels of each frame that are right and wrong, in bins of rising 1 - confidence.
        reliability: by task of labels, (F, 3, bins) `CalibrationCurve.sums` of each frame.
        angles: (F, 2, B): pixels of depth that are near and far off (`FAR_OFF`), in bins of rising angle between the predicted
            normals and those of the predicted depth; None where it does not predict both.
        repeats: how often every frame is in `statistics`, one domain after the other, see `pooled`.
    """

    specs: Specs
    tasks: tuple[str, ...]
    measures: Mapping[str, float]
    details: Mapping[str, Any]
    frames: int
    statistics: Mapping[str, Sequence[Any]]
    doubt: Mapping[str, Array] = field(default_factory=dict)
    reliability: Mapping[str, Array] = field(default_factory=dict)
    angles: Array | None = None
    repeats: int = 1

    def resampled(self, weights: Array) -> dict[str, Array]:
        """Measures under `weights` (R, F) of the frames, (R,) by key.

        Besides measures by their keys in reports: "<task>.ece", "<task>.confidence", "<task>.wrong" (share of pixels) and
        "<task>.auroc" of the confidence of labels for wrong pixels; "depth.far_off" (share) and "depth.auroc" of the angle for
        pixels that are far off, and "depth.angle", its mean.
        """
        found: dict[str, Array] = {}
        for task in self.tasks:
            spec = self.specs[task]
            values = kind_of(spec).resample(spec, self.statistics[task], np.tile(weights, (1, self.repeats)))
            found |= {scoped(self.specs, spec, name): value for name, value in values.items()}
        with np.errstate(invalid="ignore", divide="ignore"):
            for task, curves in self.reliability.items():
                sums = np.tensordot(weights, curves, 1)
                total = sums[:, 0].sum(axis=1)
                found[f"{task}.ece"] = calibration_error(sums)
                found[f"{task}.confidence"] = sums[:, 1].sum(axis=1) / total
                found[f"{task}.wrong"] = 1 - sums[:, 2].sum(axis=1) / total
            for task, counts in self.doubt.items():
                right, wrong = np.moveaxis(np.tensordot(weights, counts, 1), 1, 0)
                found[f"{task}.auroc"] = auroc_of_counts(wrong, right)
            if self.angles is not None:
                near, far = np.moveaxis(np.tensordot(weights, self.angles, 1), 1, 0)
                both = near + far
                middles = (np.arange(_ANGLE_BINS) + 0.5) * (180.0 / _ANGLE_BINS)
                found["depth.auroc"] = auroc_of_counts(far, near)
                found["depth.far_off"] = far.sum(axis=1) / both.sum(axis=1)
                found["depth.angle"] = both @ middles / both.sum(axis=1)
        return found

    def reliability_curve(self, task: str) -> tuple[Array, Array, Array]:
        """(bins,) mean confidence and share of right pixels, NaN where there are none, and the share of all pixels."""
        count, confidence, right = self.reliability[task].sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return confidence / count, right / count, count / count.sum()


def headline_keys(measured: DomainMeasures) -> dict[str, str]:
    """By task, the key of the measure that stands for it: the first that tables show and that can be drawn again."""
    found = {}
    for task in measured.tasks:
        spec = measured.specs[task]
        drawn = kind_of(spec).resample(spec, measured.statistics[task], np.ones((1, measured.frames * measured.repeats)))
        name = next(one.name for one in kind_of(spec).measures if one.name in drawn)
        shown = next((one.name for one in kind_of(spec).measures if one.headline and one.name in drawn), name)
        found[task] = scoped(measured.specs, spec, shown)
    return found


def measure_domain(
    target: EvaluationTarget,
    frames: FrameSource,
    *,
    only: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> DomainMeasures:
    """Measure a network on frames that have truths of at least one of its tasks.

    Args:
        only: tasks that are measured, where not all that both have.
        progress: called with the number of frames that are done.
    Raises:
        BuildError: they have no task in common, or a frame cannot be read.
    """
    known = {
        name: spec
        for name, spec in target.specs.items()
        if name in frames.tasks and unlike(spec, frames.tasks[name]) is None and (not only or name in only)
    }
    kept = _Kept(known)
    found = evaluate_fully(
        target.predict,
        frames,
        known or target.specs,
        size=target.size,
        canonical=target.data.canonical,
        answers_for=target.answers_for,
        progress=progress,
        on_frame=kept.add,
    )
    angles = np.stack(kept.angles) if kept.angles else None
    return DomainMeasures(
        specs={**frames.tasks, **known},
        tasks=tuple(known),
        measures=found.measures,
        details=found.details,
        frames=found.frames,
        statistics=kept.statistics,
        doubt={task: np.stack(one) for task, one in kept.doubt.items()},
        reliability={task: np.stack(one) for task, one in kept.reliability.items()},
        angles=angles,
    )


def pooled(parts: Sequence[DomainMeasures]) -> DomainMeasures:
    """Domains of the same streets as one: drawing a street draws it in all of them. Its `measures` and `details` are empty."""
    first = parts[0]
    angles = [one.angles for one in parts if one.angles is not None]
    return replace(
        first,
        measures={},
        details={},
        statistics={task: [frame for one in parts for frame in one.statistics[task]] for task in first.tasks},
        doubt={task: np.sum([one.doubt[task] for one in parts], axis=0) for task in first.doubt},
        reliability={task: np.sum([one.reliability[task] for one in parts], axis=0) for task in first.reliability},
        angles=np.sum(angles, axis=0) if angles else None,
        repeats=first.repeats * len(parts),
    )


class _Kept:
    """What every frame leaves."""

    def __init__(self, specs: Specs) -> None:
        self._specs = specs
        self.statistics: dict[str, list[Any]] = {task: [] for task in specs}
        self.doubt: dict[str, list[Array]] = {}
        self.reliability: dict[str, list[Array]] = {}
        self.angles: list[Array] = []

    def add(self, judged: Judged) -> None:
        """Keep a frame."""
        for task, spec in self._specs.items():
            metric = kind_of(spec).metric(spec)
            result, truth = judged.predicted.get(task), judged.truths.get(task)
            if result is not None and truth is not None:
                metric.update(result, truth)
                if isinstance(result, LabelMap) and result.confidence is not None:
                    self._add_labels(task, result, result.confidence, truth)
            self.statistics[task].append(metric.statistics())
        self._add_angles(judged)

    def _add_labels(self, task: str, result: LabelMap, confidence: Array, truth: Array) -> None:
        curve = CalibrationCurve()
        curve.add(confidence, result.labels, truth, classes=len(result.spec.classes))
        self.reliability.setdefault(task, []).append(curve.sums())
        known = truth < len(result.spec.classes)
        self.doubt.setdefault(task, []).append(
            _two_counts(_doubt_bins(confidence[known]), (result.labels != truth)[known], _DOUBT_BINS)
        )

    def _add_angles(self, judged: Judged) -> None:
        found = {name: result for name, result in judged.predicted.items() if name in self._specs}
        distances, directions = first_of(found, DepthMap), first_of(found, NormalMap)
        if distances is None or directions is None or (truth := judged.truths.get(distances.spec.name)) is None:
            return
        angle = depth_normal_angle(distances.depth_m, directions.normals, Intrinsics.of(judged.intrinsics))
        known = (truth > 0) & np.isfinite(truth) & np.isfinite(angle) & np.isfinite(distances.depth_m)
        off = np.abs(distances.depth_m[known] - truth[known]) > FAR_OFF * truth[known]
        bins = np.minimum((angle[known] * (_ANGLE_BINS / 180.0)).astype(np.intp), _ANGLE_BINS - 1)
        self.angles.append(_two_counts(bins, off, _ANGLE_BINS))


def _doubt_bins(confidence: Array) -> Array:
    """Bins of 1 - confidence, rising."""
    doubt = np.maximum(1.0 - confidence.astype(np.float64), 10.0**-_DOUBT_DECADES)
    place = (np.log10(doubt) + _DOUBT_DECADES) * (_DOUBT_BINS / _DOUBT_DECADES)
    bins: Array = np.minimum(place.astype(np.intp), _DOUBT_BINS - 1)
    return bins


def _two_counts(bins: Array, second: Array, count: int) -> Array:
    """(2, count) float32: how many of each bin are not `second`, and how many are."""
    return np.stack([np.bincount(bins[~second], minlength=count), np.bincount(bins[second], minlength=count)]).astype(
        np.float32
    )
