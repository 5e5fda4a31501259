"""How much better or worse a model is than single-task models: the change per task, and delta-m, their mean.

Source of the formula: Maninis et al. 2019 (arXiv:1904.08918), section 4;
used by Vandenhende et al. 2021 (arXiv:2004.13379). With every metric of a task averaged first: Lin & Zhang 2023 (LibMTL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.tasks.columns import higher_is_better

__all__ = ["change", "delta_m", "task_changes"]

Metrics = Mapping[str, float]


def change(name: str, value: float, baseline: float) -> float:
    """Relative change of one metric in percent; positive is better, whichever way the metric counts.

    Raises:
        ValueError: a baseline of zero, to which nothing is relative.
    """
    if baseline == 0:
        raise ValueError(f"{name} of the baseline is 0: a change relative to it does not exist")
    sign = 1.0 if higher_is_better(name) else -1.0
    return 100.0 * sign * (value - baseline) / baseline


def task_changes(metrics: Metrics, baseline: Metrics, *, by: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Change of each task in percent, for the tasks whose metrics both have; `by` as in `delta_m`."""
    result = {}
    for task, names in by.items():
        if all(_usable(metrics, name) and _usable(baseline, name) for name in names):
            result[task] = sum(change(name, metrics[name], baseline[name]) for name in names) / len(names)
    return result


def delta_m(metrics: Metrics, baseline: Metrics, *, by: Mapping[str, Sequence[str]]) -> float | None:
    """Mean of the tasks' changes in percent; None when they share no task.

    Args:
        metrics: of the model.
        baseline: the metrics of the single-task models together (names are unique across tasks).
        by: which metrics stand for each task, from `mtl.tasks.columns`: `one_metric` or `every_metric`.
    """
    changes = task_changes(metrics, baseline, by=by)
    return sum(changes.values()) / len(changes) if changes else None


def _usable(metrics: Metrics, name: str) -> bool:
    value = metrics.get(name)
    return value is not None and value == value
