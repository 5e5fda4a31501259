"""The kind "edges" at run time: one probability per pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.encoding import encode_image, encode_png
from edge_mtl.image.frames import Letterbox
from edge_mtl.tasks import BudgetItem, DenseKind, Measure, Result, TaskSpec, Topic
from edge_mtl.tasks.areas import CameraChange, MapArea
from edge_mtl.tasks.kind import TruthFiles
from edge_mtl.tasks.truth import fit_map, read_map

__all__ = ["UNKNOWN", "EdgeMap", "Edges", "EdgesSpec"]

Array = np.ndarray

UNKNOWN = 255


@dataclass(frozen=True, slots=True)
class EdgesSpec(TaskSpec):
    """A task of edges; a probability of at least `threshold` is one."""

    threshold: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class EdgeMap(Result):
    """Edges of one frame: (H, W) float32 probability, NaN where unknown."""

    spec: EdgesSpec
    probability: Array

    @property
    def map_size(self) -> tuple[int, int] | None:
        return self.probability.shape[0], self.probability.shape[1]


class Edges(DenseKind[EdgesSpec, EdgeMap]):
    """See the module. A truth is (H, W) uint8: 1 edge, 0 none, 255 unknown."""

    name = "edges"
    result: ClassVar[type[Result]] = EdgeMap
    suffix = "logits"
    measures = (Measure("edge_f", "edges F %", "Edges, F-measure", True, 100.0, 1, "", True),)
    agreements = (Measure("edge_difference", "edges %", "Edges, mean difference", False, 100.0, 1, " %", True),)
    budgets = (
        BudgetItem("edge_f", "edge_f", True, 0.05, 1.0, "F-measure of edges fell by"),
        BudgetItem("edges", "edge_difference", False, 0.05, 1.0, "difference from FP32's edges:"),
    )
    tolerances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        precision: {"edge_difference": 0.1 if precision.startswith("int8") else 0.02}
        for precision in ("fp32", "tf32", "bf16", "fp16", "int8", "int8+bf16", "int8+fp16")
    }
    drift: ClassVar[Mapping[str, float]] = {"edge_difference": 0.01}
    rounding: ClassVar[Mapping[str, float]] = {"edge_difference": 0.01}
    viewed_as = "image"

    def spec(self, name: str, entry: Mapping[str, Any]) -> EdgesSpec:
        threshold = entry.get("threshold", 0.5)
        if not isinstance(threshold, float) or not 0.0 < threshold < 1.0:
            raise ValueError(f"threshold of {name} should be between 0 and 1; found {threshold!r}")
        return EdgesSpec(name, self.name, threshold)

    def describe(self, spec: EdgesSpec) -> dict[str, Any]:
        return {"threshold": spec.threshold}

    def channels(self, spec: EdgesSpec) -> int:
        return 1

    def finished_shape(self, spec: EdgesSpec, size: tuple[int, int]) -> tuple[int, ...]:
        return size

    def finish(
        self, spec: EdgesSpec, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
    ) -> tuple[EdgeMap, int]:
        finished = area.placement == "graph"
        plane = area.cropped(outputs[spec.name][0] if finished else outputs[self.host_output(spec)][0, 0])
        bad = int((~np.isfinite(plane)).sum())
        found = area.resized(plane, pool)
        probability = found if finished else 1.0 / (1.0 + np.exp(-found))
        return EdgeMap(spec, area.placed(probability, np.nan, pool)), bad

    def thin(self, result: EdgeMap, step: int) -> EdgeMap:
        return EdgeMap(result.spec, result.probability[::step, ::step])

    def metric(self, spec: EdgesSpec) -> EdgeMetric:
        return EdgeMetric(spec.threshold)

    def resample(self, spec: EdgesSpec, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        return {"edge_f": f_measure(weights @ np.array(statistics, np.float64).reshape(-1, 3))}

    def agreement(self, spec: EdgesSpec, found: EdgeMap, reference: EdgeMap) -> dict[str, float]:
        return {"edge_difference": float(np.nanmean(np.abs(found.probability - reference.probability)))}

    def read_truth(self, spec: EdgesSpec, stem: str, size: tuple[int, int], files: TruthFiles) -> Array | None:
        return read_map(f"{stem}{self.truth_endings(spec)[0]}", size, files)

    def write_truth(self, spec: EdgesSpec, truth: Array) -> dict[str, bytes]:
        return {self.truth_endings(spec)[0]: encode_png(truth)}

    def fit_truth(self, spec: EdgesSpec, truth: Array, box: Letterbox) -> Array:
        return fit_map(truth, box, UNKNOWN)

    def thin_truth(self, truth: Array, step: int) -> Array:
        return truth[::step, ::step]

    def draw(self, spec: EdgesSpec, frame: Array, result: EdgeMap, *, scale: Any = None) -> Array:
        grey = (np.nan_to_num(result.probability) * 255.0).astype(np.uint8)
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)

    def summary(self, spec: EdgesSpec, result: EdgeMap) -> dict[str, Any]:
        return {"share": round(float((result.probability >= spec.threshold).mean()), 6)}

    def arrays(self, spec: EdgesSpec, result: EdgeMap) -> dict[str, Array]:
        return {spec.name: result.probability}

    def images(self, spec: EdgesSpec, result: EdgeMap) -> dict[str, bytes]:
        return {f"{spec.name}.png": encode_image(self.draw(spec, result.probability, result))}

    def topics(self, spec: EdgesSpec) -> tuple[Topic, ...]:
        return (Topic(spec.name, "32FC1", lambda result: result.probability),)


class EdgeMetric:
    """Pixels that are edges in both, in the answer and in the truth."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._counts = np.zeros(3, np.int64)

    def update(self, result: EdgeMap, truth: Array) -> None:
        known = (truth != UNKNOWN) & np.isfinite(result.probability)
        found, true = (result.probability >= self._threshold)[known], (truth == 1)[known]
        self._counts += [int((found & true).sum()), int(found.sum()), int(true.sum())]

    def compute(self) -> dict[str, float]:
        return {"edge_f": float(f_measure(self._counts))}

    def statistics(self) -> tuple[int, int, int]:
        both, found, true = (int(value) for value in self._counts)
        return both, found, true

    def details(self) -> dict[str, Any]:
        return {}


def f_measure(counts: Array) -> Array:
    """(..., 3) pixels in both, found, true -> (...) 2 both / (found + true); NaN where there is neither."""
    both, sums = 2.0 * counts[..., 0], counts[..., 1] + counts[..., 2]
    return np.divide(both, sums, out=np.full(np.shape(both), np.nan), where=sums > 0)
