"""Which plots a study gets, and from which of its rows; how lines are drawn is in `mtl.study.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.study.columns import heading_of
from mtl.study.comparison import Comparison
from mtl.study.cosines import PairCosines
from mtl.study.document import Figure
from mtl.study.pareto import front, points
from mtl.study.plots import Curve, bars, cosine_lines, curves, pareto
from mtl.study.results import Results, RowResult
from mtl.study.significance import Difference
from mtl.study.timings import Latencies
from mtl.tasks import head_of
from mtl.tasks.columns import columns_for

__all__ = ["change_figures", "cosine_figure", "learning_figure", "pareto_figure"]

_MARGIN = "Lines are 95 % intervals from the spread over seeds; grey bars show no difference."


def change_figures(compare: Comparison, group: str) -> list[Figure]:
    """Bars of a group: per task against single-task models for "tasks", against the group's reference for the others."""
    results = compare.results
    rows = [row for row in results.in_group(group) if row.finished]
    if group == "tasks":
        changes = {
            f"{row.row.name}: {results.called(task)}": one
            for row in rows
            if row not in results.singles.values()
            for task, one in compare.tasks_against_single(row).items()
        }
        caption = f"Each task of a shared model against the model trained for it alone. {_MARGIN}"
        return _bars("tasks", changes, "change against the single-task model, % (right is better)", caption)
    reference = results.get(results.study.groups[group].reference)
    if reference is None:
        return []
    others = [row for row in rows if row is not reference]
    whole = {row.row.name: one for row in others if (one := compare.against(row, reference)) is not None}
    name = reference.row.name
    found = _bars(
        group, whole, f"mean change of all tasks against {name}, % (right is better)", f"All tasks together. {_MARGIN}"
    )
    if group == "weighting":
        task = results.study.weighted_task
        alone = {row.row.name: one for row in others if (one := compare.tasks_against(row, reference).get(task))}
        label = f"change of the {task} against {name}, % (right is better)"
        if alone:
            caption = f"The {task} alone ({_measure(compare, task)}). {_MARGIN}"
            found = [*_bars(f"weighting-{task}", alone, label, caption), *found]
    return found


def _measure(compare: Comparison, task: str) -> str:
    """The words for the measure that stands for a task."""
    spec = compare.results.tasks[task]
    return head_of(spec).columns_of(spec)[0].words


def pareto_figure(compare: Comparison, latencies: Latencies | None) -> Figure | None:
    """Accuracy against cost of the decoders; None for fewer than two of them."""
    every = points(compare, latencies)
    if len(every) < 2:
        return None
    best = front(every)
    timed = latencies is not None and every[0].is_latency
    cost = "parameters, millions"
    if latencies and timed:
        cost = f"latency at {latencies.height}x{latencies.width} as {latencies.int8_engine}, ms"
    caption = (
        "Accuracy (FP32, at the size of training) against cost: up and to the left is better. Filled: nothing else is both "
        "more accurate, by mean values, and cheaper. Lines are 95 % intervals from the spread over seeds."
    )
    return Figure("pareto.svg", pareto(every, best, x_label=cost, y_label="Δm, %"), caption)


def cosine_figure(name: str, pairs: Sequence[PairCosines], *, file: str = "cosines.svg") -> Figure:
    """Cosines between the gradients of what is called `name` over its training."""
    caption = (
        f"{name}: cosine between the gradients of two tasks on the shared features, as sampled (faint) and smoothed. "
        "Below zero, a step for one task works against the other."
    )
    return Figure(file, cosine_lines(pairs), caption)


def learning_figure(results: Results) -> Figure | None:
    """Validation metrics over steps of the reference and the single-task models."""
    rows = [row for row in (results.reference, *results.singles.values()) if row is not None]
    panels: dict[str, list[Curve]] = {}
    keys = (key for row in rows for run in row.runs for one in run.records.validations for key in one)
    for column in (one for one in columns_for(keys) if one.column.curve):
        lines = [curve for row in rows if (curve := _curve(row, column.key)) is not None]
        if lines:
            better = "higher" if column.higher_is_better else "lower"
            panels[f"{heading_of(column, results.pseudo)} ({better} is better)"] = lines
    if not panels:
        return None
    return Figure("learning.svg", curves(panels), "Validation frames during training, one line for each seed.")


def _curve(row: RowResult, key: str) -> Curve | None:
    seeds = []
    for run in row.runs:
        seen = [(int(one["step"]), float(one[key])) for one in run.records.validations if isinstance(one.get(key), float)]
        if seen:
            seeds.append((tuple(step for step, _ in seen), tuple(value for _, value in seen)))
    return Curve(row.row.name, tuple(seeds)) if seeds else None


def _bars(name: str, changes: Mapping[str, Difference], label: str, caption: str) -> list[Figure]:
    return [Figure(f"{name}.svg", bars(changes, label=label), caption)] if changes else []
