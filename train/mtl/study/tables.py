"""Tables of the report: the study's columns with mean and spread over seeds. Knows numbers; knows no language of layout."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import fmean, stdev

from mtl.schedule import passes_at
from mtl.study.columns import heading_of, written_parameters, written_step
from mtl.study.comparison import Comparison
from mtl.study.cosines import PairCosines
from mtl.study.document import TextTable
from mtl.study.results import AVERAGED_EVALUATIONS, Measured, RowResult
from mtl.study.timings import Latencies
from mtl.tasks.columns import MetricColumn, columns_for

__all__ = ["choices_table", "cosine_table", "group_table", "latency_table"]

_BUSY = 1.5
"""A load above this means that other work disturbed the measurement, whose own share is at most one."""

_CHOICES = {
    "last": "last: test",
    "best": "best on validation: test",
    "best_on_test": "best on test, flattering: test",
    "mean_of_last": f"mean of the last (at most {AVERAGED_EVALUATIONS}) evaluations: validation",
}


def group_table(compare: Comparison, rows: Sequence[RowResult], *, caption: str) -> TextTable:
    """Rows of a group that are finished; the best mean of every column is stressed."""
    finished = [row for row in rows if row.finished]
    metrics = [row.metrics(compare.how) for row in finished]
    pseudo = compare.results.pseudo
    columns = columns_for(key for one in metrics for key in one)
    several_seeds = any(len(row.finished) > 1 for row in finished)
    headings = ["model", "step (epoch)", *(heading_of(column, pseudo) for column in columns), "params", "Δm %"]
    headings += ["seeds"] if several_seeds else []
    lines = []
    for row, own in zip(finished, metrics, strict=True):
        settings = row.finished[0].run.settings
        cells = [row.row.name, written_step(settings.steps, passes_at(settings, settings.steps))]
        cells += [_measured(column, own.get(column.key)) for column in columns]
        cells += [written_parameters(row.parameters), _delta(compare, row)]
        cells += [str(len(row.finished))] if several_seeds else []
        lines.append(tuple(cells))
    strong = set()
    for number, column in enumerate(columns):
        values = {line: own[column.key].mean for line, own in enumerate(metrics) if column.key in own}
        if len(values) > 1:
            sign = 1 if column.higher_is_better else -1
            best = max(values.values(), key=lambda value: sign * value)
            strong |= {(line, number + 2) for line, value in values.items() if value == best}
    return TextTable(tuple(headings), tuple(lines), frozenset(strong), caption)


def choices_table(rows: Sequence[RowResult], *, caption: str, pseudo: Collection[str] = ()) -> TextTable | None:
    """The same runs with their weights chosen in different ways; None when only one way was measured.

    Args:
        pseudo: as of `mtl.study.columns.study_cells`.
    """
    lines, seen = [], set()
    finished = [row for row in rows if row.finished]
    columns = columns_for(key for row in finished for key in row.metrics())
    for row in finished:
        for how, name in _CHOICES.items():
            own = row.metrics(how)
            if own:
                seen.add(how)
                lines.append((row.row.name, name, *(_measured(column, own.get(column.key)) for column in columns)))
    if len(seen) < 2:
        return None
    headings = ("model", "weights: frames", *(heading_of(column, pseudo) for column in columns))
    return TextTable(headings, tuple(lines), caption=caption)


def latency_table(latencies: Latencies) -> TextTable:
    """Milliseconds of every timed row in every engine, and how the rows compare in the fastest one in INT8."""
    chosen, first = latencies.int8_engine, latencies.rows[0].name
    lines = []
    for row in latencies.rows:
        cells = (f"{one.median_ms:.1f} ({one.p10_p90_ms[0]:.1f} to {one.p10_p90_ms[1]:.1f})" for one in row.engines)
        best = row[chosen]
        against = f"{best.ratio:.2f} ({best.ratio_sure[0]:.2f} to {best.ratio_sure[1]:.2f})"
        operations = f"{row.gmacs:.2f}" if row.gmacs else "-"
        lines.append((row.name, operations, *cells, "" if row.name == first else against))
    caption = (
        f"One frame of {latencies.height}x{latencies.width} through the optimized ONNX: milliseconds, median (10 to 90 %), and "
        "10⁹ multiplications with an addition in the plain network; "
        f"{' and '.join(latencies.runtimes)}, {latencies.threads} threads on {latencies.machine}; {latencies.rounds} rounds, "
        f"all interleaved, {latencies.date}. Last column: {chosen}, the fastest in INT8 here, how many times as fast as "
        f"“{first}”, call by neighbouring call, with its 95 % interval."
    )
    if latencies.load > _BUSY:
        caption += f" The machine was busy (load {latencies.load:.1f}): trust the order less than the numbers suggest."
    headings = ("model", "GMACs", *latencies.engines, f"times as fast as “{first}”")
    return TextTable(headings, tuple(lines), caption=caption)


def cosine_table(pairs: Sequence[PairCosines]) -> TextTable:
    """Numbers to the image of cosines."""
    lines = []
    for one in pairs:
        halves = [one.negative_share_of_half(half) for half in (0, 1)]
        shares = ["-" if share is None else f"{share:.0%}" for share in (one.negative_share, *halves)]
        lines.append((" + ".join(one.pair), f"{one.mean:+.3f}", *shares, str(len(one.values))))
    headings = ("tasks", "mean cosine", "negative", "first half", "second half", "samples")
    return TextTable(headings, tuple(lines), caption="Cosine between the gradients of two tasks on the shared features.")


def _measured(column: MetricColumn, value: Measured | None) -> str:
    if value is None:
        return ""
    spread = "" if value.spread is None else f" ± {column.written(value.spread)}"
    return f"{column.written(value.mean)}{spread}"


def _delta(compare: Comparison, row: RowResult) -> str:
    values = compare.delta_m_per_seed(row)
    if compare.against_single(row) is None or not values:
        return ""
    return f"{fmean(values):+.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:+.2f}"
