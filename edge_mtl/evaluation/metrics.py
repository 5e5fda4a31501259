"""Metrics of several tasks together, and how far two answers of one frame agree.

Every `compute()` returns plain floats by the keys of `edge_mtl.tasks.scoped`, so that the measures of several tasks merge
into one mapping (`Manifest.accuracy`). A task that saw nothing valid reports NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_mtl.tasks import Metric, Result, Specs, kind_of, scoped

__all__ = ["TaskMetrics", "agreement", "mean_agreement"]


class TaskMetrics:
    """One metric per task; results and truths are passed by the task's name, and missing ones are skipped.

    Args:
        full: with all that the field reports in `details`, see `edge_mtl.tasks.Kind.full_metric`.
    """

    def __init__(self, specs: Specs, *, full: bool = False) -> None:
        self.specs = specs
        self.by_task: dict[str, Metric] = {
            name: kind_of(spec).full_metric(spec) if full else kind_of(spec).metric(spec) for name, spec in specs.items()
        }

    def update(self, results: Mapping[str, Result], truths: Mapping[str, Any]) -> None:
        """Add one frame or batch."""
        for name, metric in self.by_task.items():
            if results.get(name) is not None and truths.get(name) is not None:
                metric.update(results[name], truths[name])

    def compute(self) -> dict[str, float]:
        """All measures of all tasks in one mapping."""
        return {
            scoped(self.specs, self.specs[name], measure): value
            for name, metric in self.by_task.items()
            for measure, value in metric.compute().items()
        }

    def details(self) -> dict[str, Any]:
        """What the metrics say besides: class_iou and ece of labels, for example."""
        return {
            scoped(self.specs, self.specs[name], key): value
            for name, metric in self.by_task.items()
            for key, value in metric.details().items()
        }

    def near_chance(self) -> tuple[str, ...]:
        """Of tasks whose answers are no better than guesses, sentences; see `edge_mtl.tasks.Kind.near_chance`."""
        found = (kind_of(spec).near_chance(spec, self.by_task[name]) for name, spec in self.specs.items())
        return tuple(filter(None, found))


def agreement(specs: Specs, found: Mapping[str, Result], reference: Mapping[str, Result]) -> dict[str, float]:
    """How far two answers of one frame agree, by the keys of `edge_mtl.tasks.measure_names`; tasks that one lacks are left out.

    Args:
        reference: what relative differences are relative to.
    """
    agreed: dict[str, float] = {}
    for name, spec in specs.items():
        if name in found and name in reference:
            values = kind_of(spec).agreement(spec, found[name], reference[name])
            agreed |= {scoped(specs, spec, key): value for key, value in values.items()}
    return agreed


def mean_agreement(agreements: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over frames of what `agreement` says; values that are not finite are left out."""
    known: dict[str, list[float]] = {}
    for entry in agreements:
        for name, value in entry.items():
            if np.isfinite(value):
                known.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in known.items()}
