"""Rows against single-task models and against each other, with what the spread over seeds allows to say.

Knows rows, delta-m and significance; writes no text.
"""

from __future__ import annotations

from collections.abc import Sequence

from mtl.study.delta import change, delta_m
from mtl.study.results import Measured, Results, RowResult
from mtl.study.significance import Difference, Noise
from mtl.tasks.columns import every_metric, one_metric

__all__ = ["Comparison"]


class Comparison:
    """Every comparison that the report makes, on the test frames.

    Args:
        results: of the study.
        how: which weights of each run (see `RunResult.chosen`).

    Attributes:
        one_metric: by task, the key of the measure that stands for it.
        noise: how much seeds alone make.
    """

    def __init__(self, results: Results, *, how: str = "last") -> None:
        self.results = results
        self.how = how
        self.one_metric = one_metric(results.tasks)
        self.noise = Noise(row.metrics(how) for row in results.rows)

    def against_single(self, row: RowResult) -> Difference | None:
        """Delta-m of a row; None when it shares no task with the single-task models or is one of them."""
        if row in self.results.singles.values():
            return None
        return self._difference(row, tuple(self.results.singles.values()))

    def tasks_against_single(self, row: RowResult) -> dict[str, Difference]:
        """The change of each task against the model trained for it alone."""
        return self._by_task(row, tuple(self.results.singles.values()))

    def against(self, row: RowResult, other: RowResult) -> Difference | None:
        """Mean change of the tasks that two rows share."""
        return self._difference(row, (other,))

    def tasks_against(self, row: RowResult, other: RowResult) -> dict[str, Difference]:
        """The change of each task that two rows share."""
        return self._by_task(row, (other,))

    def delta_m_every_metric(self, row: RowResult) -> float | None:
        """Delta-m with every metric of a task averaged first."""
        if row in self.results.singles.values():
            return None
        return delta_m(row.means(self.how), self.results.single_metrics(self.how), by=every_metric(self.results.tasks))

    def delta_m_per_seed(self, row: RowResult) -> list[float]:
        """Delta-m of every seed of a row against the mean of the single-task models."""
        baseline = self.results.single_metrics(self.how)
        found = [delta_m(one, baseline, by=self.one_metric) for one in row.per_seed(self.how)]
        return [value for value in found if value is not None]

    def _by_task(self, row: RowResult, others: Sequence[RowResult]) -> dict[str, Difference]:
        found = {task: self._difference(row, others, tasks=(task,)) for task in self.one_metric}
        return {task: one for task, one in found.items() if one is not None}

    def _difference(
        self, row: RowResult, others: Sequence[RowResult], *, tasks: Sequence[str] | None = None
    ) -> Difference | None:
        """The mean change of the metrics that a row shares with others, each metric being of the last of them that has it."""
        terms, seeds = {}, {}
        for other in others:
            ours, theirs = self._alike(row, other)
            for name in (name for task in (tasks or self.one_metric) for name in self.one_metric[task]):
                if name in ours and name in theirs and theirs[name].mean:
                    terms[name] = change(name, ours[name].mean, theirs[name].mean)
                    seeds[name] = (ours[name].count, theirs[name].count)
        return self.noise.difference(terms, seeds=seeds) if terms else None

    def _alike(self, row: RowResult, other: RowResult) -> tuple[dict[str, Measured], dict[str, Measured]]:
        """Metrics of two rows over the seeds that both have, or over all where they have none in common.

        One seed makes the same first weights and the same order of frames: what it is worth is in both, and cancels.
        """
        shared = row.seeds & other.seeds or None
        return row.metrics(self.how, seeds=shared), other.metrics(self.how, seeds=shared)
