"""Which pixels of an answer become pseudo-labels: what is trusted of labels, depth and normals, and how much.

A label map is trusted where its softmax is high. Depth and normals have no such number of their own; three measures stand in,
of which docs/guides/pseudo-labels.md has the figures: whether the mirrored image gets the same answer, whether depth and
normals agree with each other, and how sure the bundle's label map is of what is there. Where the image was mirrored, the mean
of both answers is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import VOID, DepthMap, LabelMap, NormalMap, Specs, TaskSpec
from edge_mtl.tasks.depth import Depth, DepthSpec
from edge_mtl.tasks.labels import Labels
from edge_mtl.tasks.normals import Normals, angles_deg
from mtl.pseudo_labels.answers import Answer

__all__ = ["RULES", "Rule", "Thresholds", "Truth", "choose_tasks"]

Array = np.ndarray
Truth = Array
"""As in `mtl.datasets.frame.Frame.truths`: labels 255, depth and normals 0 where unknown."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a pixel has to reach.

    Attributes:
        confidence: of labels: softmax at the chosen class, at least, 0..1.
        geometry_confidence: of depth and normals: the same number of the bundle's first label map, at least; not looked at
            where the bundle predicts no labels.
        depth_mirror: of depth: by how much the larger of both answers may exceed the smaller one, as a share.
        normals_mirror_deg: of normals: largest angle between both answers.
        consistency_deg: of normals: largest angle to the normals of the depth (`edge_mtl.tasks.consistency`); not looked at
            where the bundle predicts no depth.
    Raises:
        ValueError: a threshold is out of its range.
    """

    confidence: float = 0.9
    geometry_confidence: float = 0.7
    depth_mirror: float = 0.05
    normals_mirror_deg: float = 10.0
    consistency_deg: float = 45.0

    def __post_init__(self) -> None:
        limits = {"confidence": 1.0, "geometry_confidence": 1.0, "normals_mirror_deg": 180.0, "consistency_deg": 180.0}
        for name, most in limits.items():
            if not 0.0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} should be 0 to {most:g}; found {getattr(self, name)}")
        if not 0.0 <= self.depth_mirror < float("inf"):
            raise ValueError(f"depth_mirror should be 0 or more; found {self.depth_mirror}")


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of task is trusted.

    Attributes:
        mirrored: whether it needs the answer to the mirrored image.
        thresholds: names of those that it looks at.
        truth: (task, answer, thresholds) to a truth with what is not trusted unknown.
    """

    mirrored: bool
    thresholds: tuple[str, ...]
    truth: Callable[[Any, Answer, Thresholds], Truth]

    def facts(self, thresholds: Thresholds) -> dict[str, float]:
        """The thresholds that decide, for records."""
        return {name: float(getattr(thresholds, name)) for name in self.thresholds}


def choose_tasks(specs: Specs, asked: tuple[str, ...]) -> dict[str, TaskSpec]:
    """The tasks to label: those asked for, or all of the bundle that have a rule.

    Raises:
        BuildError: the bundle does not predict one that was asked for, there is no rule for its kind, or none is left.
    """
    for name in asked:
        if name not in specs:
            raise BuildError(f"the bundle has no task {name!r}; it predicts {', '.join(specs)}. Name some of these: --tasks")
        if specs[name].kind not in RULES:
            raise BuildError(f"{name} is of the kind {specs[name].kind!r}; pseudo-labels are made of {', '.join(RULES)}")
    chosen = {name: spec for name, spec in specs.items() if (name in asked if asked else spec.kind in RULES)}
    if not chosen:
        raise BuildError(f"the bundle predicts {', '.join(specs)}; pseudo-labels are made of the kinds {', '.join(RULES)}")
    return chosen


def _labels(spec: TaskSpec, answer: Answer, thresholds: Thresholds) -> Truth:
    result = answer.results[spec.name]
    assert isinstance(result, LabelMap)
    confidence = result.confidence
    if confidence is None:
        raise BuildError(
            f"this engine answers {spec.name} without a confidence. Take the bundle's own graph: "
            "--backend onnxruntime --precision fp32"
        )
    return np.where(confidence >= thresholds.confidence, result.labels, np.uint8(VOID))


def _depth(spec: DepthSpec, answer: Answer, thresholds: Thresholds) -> Truth:
    first, second = answer.results[spec.name], answer.mirrored[spec.name]
    assert isinstance(first, DepthMap)
    assert isinstance(second, DepthMap)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.maximum(first.depth_m, second.depth_m) / np.minimum(first.depth_m, second.depth_m) - 1.0
        mean = np.sqrt(first.depth_m * second.depth_m)
        near, far = spec.range_m
        kept = (apart <= thresholds.depth_mirror) & (mean >= near) & (mean <= far)
    kept &= _recognised(answer, thresholds)
    return np.where(kept, mean, np.float32(0.0))


def _normals(spec: TaskSpec, answer: Answer, thresholds: Thresholds) -> Truth:
    first, second = answer.results[spec.name], answer.mirrored[spec.name]
    assert isinstance(first, NormalMap)
    assert isinstance(second, NormalMap)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = angles_deg(first.normals, second.normals) <= thresholds.normals_mirror_deg
        if answer.consistency is not None:
            kept &= answer.consistency <= thresholds.consistency_deg
        kept &= _recognised(answer, thresholds)
        total = first.normals + second.normals
        mean = total / np.linalg.norm(total, axis=2, keepdims=True)
        kept &= np.isfinite(mean).all(axis=2)
    return np.where(kept[..., None], mean, np.float32(0.0)).astype(np.float32)


def _recognised(answer: Answer, thresholds: Thresholds) -> Array | bool:
    """(H, W) bool: where the label map is sure enough; True without one."""
    return True if answer.confidence is None else answer.confidence >= thresholds.geometry_confidence


RULES: Mapping[str, Rule] = {
    Labels.name: Rule(False, ("confidence",), _labels),
    Depth.name: Rule(True, ("depth_mirror", "geometry_confidence"), _depth),
    Normals.name: Rule(True, ("normals_mirror_deg", "consistency_deg", "geometry_confidence"), _normals),
}
"""By kind."""
