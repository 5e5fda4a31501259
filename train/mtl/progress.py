"""What a person sees of a run: a live line and tables of metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from edge_mtl.console import Console
from mtl.loop import StepReport
from mtl.tasks.columns import columns_for

__all__ = ["StepProgress", "metrics_table"]

_SMOOTHING = 0.05
_PLAIN_EVERY_S = 30.0


def metrics_table(rows: Mapping[str, Mapping[str, float]], *, title: str = "") -> Table:
    """One row per name; the columns of what was measured, with a digit less than studies show."""
    columns = columns_for(key for row in rows.values() for key in row)
    table = Table("", *(column.heading for column in columns), title=title or None)
    for name, row in rows.items():
        table.add_row(name, *(column.written(row[column.key], fewer=1) if column.key in row else "" for column in columns))
    return table


class StepProgress:
    """A live bar on a terminal; elsewhere a line every half minute."""

    def __init__(self, console: Console, *, steps: int, done: int) -> None:
        self._console = console
        self._steps, self._done = steps, done
        self._smooth: dict[str, float] = {}
        self._by_source: dict[str, dict[str, float]] = {}
        self._weights: dict[str, float] = {}
        self._rate = 0.0
        self._spoke = time.monotonic()
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times)
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=120)
        self._task = self._bar.add_task("", total=steps, completed=done)

    def __enter__(self) -> StepProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, report: StepReport, *, images: int, seconds: float, stage: str, source: str = "") -> None:
        """After every step: how many images it took and for how long, and of which source they were."""
        self._done += 1
        for task, value in report.losses.items():
            if math.isfinite(value):
                self._smooth[task] = _follow(self._smooth.get(task), value)
                if source:
                    own = self._by_source.setdefault(source, {})
                    own[task] = _follow(own.get(task), value)
        for task, value in report.weights.items():
            if math.isfinite(value):
                self._weights[task] = _follow(self._weights.get(task), value)
        self._rate = _follow(self._rate or None, images / max(seconds, 1e-6))
        losses = _listed(self._smooth)
        if self._by_source:
            losses = "  ".join(f"{name}: {_listed(values)}" for name, values in self._by_source.items())
        text = f"{stage}  {losses}  {self._rate:.1f} images/s"
        self._bar.update(self._task, advance=1, description=text)
        if not self._console.is_terminal and time.monotonic() - self._spoke > _PLAIN_EVERY_S:
            self._spoke = time.monotonic()
            self._console.print(f"step {self._done}/{self._steps}  {text}  lr {report.rate:.1e}", highlight=False)

    @property
    def losses(self) -> dict[str, float]:
        """Smoothed loss per task."""
        return dict(self._smooth)

    @property
    def losses_by_source(self) -> dict[str, dict[str, float]]:
        """Smoothed loss per task, of each source of a mixture."""
        return {source: dict(values) for source, values in self._by_source.items()}

    @property
    def weights(self) -> dict[str, float]:
        """Smoothed weight of each task's loss in the shared layers."""
        return dict(self._weights)

    @property
    def images_per_s(self) -> float:
        """Smoothed speed."""
        return self._rate


def _listed(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{task[:3]} {value:.3f}" for task, value in losses.items())


def _follow(before: float | None, value: float) -> float:
    return value if before is None else before + _SMOOTHING * (value - before)
