"""A kind of another distribution: "edges", the probability of an edge per pixel. Found through its entry point alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edge_mtl.tasks import DenseKind, Measure, Result, TaskSpec, Topic

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class EdgeMap(Result):
    """(H, W) float32, 0..1, 0 where unknown."""

    edges: Array

    @property
    def map_size(self) -> tuple[int, int] | None:
        return self.edges.shape[0], self.edges.shape[1]


class Edges(DenseKind[TaskSpec, EdgeMap]):
    name: ClassVar[str] = "edges"
    result: ClassVar[type[Result]] = EdgeMap
    agreements = (Measure("edge_difference", "edges", "Edges, mean difference", False),)
    tolerances: ClassVar[Mapping[str, Mapping[str, float]]] = {"fp32": {"edge_difference": 0.01}}

    def spec(self, name: str, entry: Mapping[str, Any]) -> TaskSpec:
        return TaskSpec(name, self.name)

    def describe(self, spec: TaskSpec) -> dict[str, Any]:
        return {}

    def channels(self, spec: TaskSpec) -> int:
        return 1

    def finished_shape(self, spec: TaskSpec, size: tuple[int, int]) -> tuple[int, ...]:
        return size

    def finish(self, spec: TaskSpec, outputs: Mapping[str, Array], area: Any, change: Any, pool: Any) -> tuple[EdgeMap, int]:
        probability = (1.0 / (1.0 + np.exp(-area.cropped(outputs[self.host_output(spec)][0, 0])))).astype(np.float32)
        return EdgeMap(spec, area.placed(area.resized(probability, pool), 0.0, pool)), 0

    def metric(self, spec: TaskSpec) -> Any:
        raise NotImplementedError("nothing has a truth here")

    def resample(self, spec: TaskSpec, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        return {}

    def agreement(self, spec: TaskSpec, found: EdgeMap, reference: EdgeMap) -> dict[str, float]:
        return {"edge_difference": float(np.abs(found.edges - reference.edges).mean())}

    def topics(self, spec: TaskSpec) -> tuple[Topic, ...]:
        return (
            Topic(spec.name, "mono8", lambda result: np.rint(result.edges * 255).astype(np.uint8)),
            Topic(f"{spec.name}/share", "", lambda result: f"{(result.edges > 0.5).mean():.4f}"),
            Topic(f"{spec.name}/none", "mono8", lambda result: None),
            Topic(f"{spec.name}/broken", "mono8", lambda result: result.edges / result.nothing),
        )


EDGES = Edges()
