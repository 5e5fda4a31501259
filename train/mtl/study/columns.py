"""The study's table: columns of what was measured, and of steps, size and change, as text or for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from rich.table import Table

from mtl.tasks.columns import MetricColumn, columns_for

__all__ = [
    "DELTA_M",
    "EPOCH",
    "PARAMETERS",
    "STEP",
    "heading_of",
    "study_cells",
    "study_table",
    "terminal_table",
    "written_parameters",
    "written_step",
]

STEP, EPOCH, PARAMETERS, DELTA_M = "step", "epoch", "parameters", "delta_m"
"""Keys beside those of the metrics: steps and passes trained, weights of the model, percent against single-task models."""


def written_parameters(count: float | None) -> str:
    """39020753 -> "39.02M"."""
    return f"{count / 1e6:.2f}M" if count else "-"


def study_table(rows: Mapping[str, Mapping[str, float | None]], *, title: str = "", pseudo: Collection[str] = ()) -> Table:
    """The study's table for a terminal; arguments as of `study_cells`."""
    return terminal_table(*study_cells(rows, pseudo=pseudo), title=title)


def terminal_table(headings: Sequence[str], lines: Sequence[Sequence[str]], *, title: str = "") -> Table:
    """Cells as a table for a terminal: the first column is of names, the others are of figures."""
    table = Table(headings[0], title=title or None)
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def study_cells(
    rows: Mapping[str, Mapping[str, float | None]], *, pseudo: Collection[str] = ()
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The study's table as text, headings and rows; columns that no row has anything for are left out.

    Args:
        rows: by name, the metrics and, where known, "step" with "epoch", "parameters" and "delta_m".
        pseudo: keys of measures whose truth was computed, not measured: their headings end in "(pseudo)".
    """

    def present(key: str) -> bool:
        return any(row.get(key) is not None for row in rows.values())

    columns: list[tuple[str, Callable[[Mapping[str, float | None]], str]]] = []
    if present(STEP):
        columns.append(("step (epoch)", _step))
    measured = columns_for(key for row in rows.values() for key in row)
    columns += [(heading_of(one, pseudo), partial(_metric, one)) for one in measured if present(one.key)]
    if present(PARAMETERS):
        columns.append(("params", lambda row: written_parameters(row.get(PARAMETERS))))
    if present(DELTA_M):
        columns.append(("Δm %", _delta_m))
    headings = ("model", *(heading for heading, _ in columns))
    return headings, [(name, *(write(row) for _, write in columns)) for name, row in rows.items()]


def written_step(step: float, epoch: float | None) -> str:
    """ "1200 (8.0)": steps, and passes over the training frames where they are known."""
    return f"{step:.0f}" if epoch is None else f"{step:.0f} ({epoch:.1f})"


def heading_of(column: MetricColumn, pseudo: Collection[str]) -> str:
    """The heading of a measure, which says where its truth was computed; `pseudo` as of `study_cells`."""
    return f"{column.heading} (pseudo)" if column.key in pseudo else column.heading


def _step(row: Mapping[str, float | None]) -> str:
    step = row.get(STEP)
    return "" if step is None else written_step(step, row.get(EPOCH))


def _metric(column: MetricColumn, row: Mapping[str, float | None]) -> str:
    return "" if row.get(column.key) is None else column.written(row[column.key])


def _delta_m(row: Mapping[str, float | None]) -> str:
    change = row.get(DELTA_M)
    return "" if change is None else f"{change:+.2f}"
