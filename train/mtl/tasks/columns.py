"""Columns of tables in training and studies: which measure, its heading, and what it counts for when weights are chosen.

Keys of measures are those of `edge_mtl.tasks.scoped`: the measure's own name, or "task.measure".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edge_mtl.tasks import KINDS, Specs, scoped
from mtl.tasks import HEADS, Column, head_of

__all__ = ["MetricColumn", "columns_for", "every_metric", "higher_is_better", "metric_keys", "one_metric", "score"]


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """A column of one task: `key` is that of the measure in records."""

    key: str
    heading: str
    column: Column

    def written(self, value: float | None, *, fewer: int = 0) -> str:
        """The value as text, with some digits fewer; a dash where there is none."""
        return "-" if value is None or value != value else f"{value:.{self.column.decimals - fewer}f}"

    @property
    def higher_is_better(self) -> bool:
        """Direction of the measure."""
        return higher_is_better(self.key)


def columns_for(keys: Iterable[str]) -> list[MetricColumn]:
    """The columns of measures in the order of reports; keys of anything else are left out."""
    given = list(dict.fromkeys(keys))
    found = []
    for head in HEADS.values():
        for column in head.columns:
            for key in given:
                task, _, measure = key.rpartition(".")
                if measure == column.measure:
                    found.append(MetricColumn(key, f"{task} {column.heading}".strip(), column))
    return found


def metric_keys(keys: Iterable[str]) -> list[str]:
    """Those of `keys` that are keys of measures, in the order of kinds and their measures."""
    order = {measure.name: place for place, measure in enumerate(m for kind in KINDS.values() for m in kind.measures)}
    return sorted((key for key in keys if _measure(key) in order), key=lambda key: order[_measure(key)])


def higher_is_better(key: str) -> bool:
    """Direction of a measure. Raises KeyError: `key` is none of a measure."""
    return {measure.name: measure.higher_is_better for kind in KINDS.values() for measure in kind.measures}[_measure(key)]


def one_metric(specs: Specs) -> dict[str, tuple[str, ...]]:
    """By task, the key of the measure that stands for it."""
    return {task: keys[:1] for task, keys in every_metric(specs).items()}


def every_metric(specs: Specs) -> dict[str, tuple[str, ...]]:
    """By task, the keys of all its columns."""
    return {
        task: tuple(scoped(specs, spec, column.measure) for column in head_of(spec).columns_of(spec))
        for task, spec in specs.items()
    }


def score(metrics: Mapping[str, float]) -> float:
    """One number to choose checkpoints by, higher is better: the sum of all measures times what their columns count.

    Of a measure and one that is there instead of it, only the latter counts.
    """
    known = [one for one in columns_for(metrics) if one.column.score and np.isfinite(metrics[one.key])]
    replaced = {f"{one.key.removesuffix(one.column.measure)}{one.column.instead_of}" for one in known if one.column.instead_of}
    values = [one.column.score * metrics[one.key] for one in known if one.key not in replaced]
    return float(sum(values)) if values else float("-inf")


def _measure(key: str) -> str:
    return key.rpartition(".")[2]
