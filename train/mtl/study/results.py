"""The numbers of a study: what each row's runs measured, their mean and spread over seeds.

Knows records and metrics by name; draws no conclusions (see `mtl.study.answers`) and writes no text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from edge_mtl.tasks import Specs
from mtl.datasets.sources import data_set, data_tasks
from mtl.study.choices import best_on_test, finite_metrics, mean_of_last
from mtl.study.definition import PlannedRun, Row, Study
from mtl.study.records import Outcome, RunRecords, read_outcome, read_records
from mtl.study.truths import Truths, pseudo_keys, pseudo_tasks
from mtl.tasks.columns import metric_keys

__all__ = ["AVERAGED_EVALUATIONS", "Measured", "Results", "RowResult", "RunResult", "collect_results"]

AVERAGED_EVALUATIONS = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric over the seeds of a row; `spread` is the sample standard deviation, None for a single seed."""

    mean: float
    spread: float | None
    count: int

    @classmethod
    def over(cls, values: Sequence[float]) -> Measured:
        """From one value per seed."""
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run: what it wrote and how it ended."""

    run: PlannedRun
    records: RunRecords
    outcome: Outcome | None

    @property
    def failed(self) -> bool:
        """Whether its last process ended with an error."""
        return not self.records.finished and self.outcome is not None and self.outcome.exit_code != 0

    @property
    def validates_on_test(self) -> bool:
        """Whether the frames that choose the best weights are the test frames, as in LibMTL's example."""
        data = self.run.settings.data
        return data_set(data).validates_on_test(data)

    @property
    def truths(self) -> Truths:
        """How the truths of its test frames were made, as far as they say."""
        record = self.records.test("last")
        found: Truths = record.get("truths", {}) if record is not None else {}
        return found

    def chosen(self, how: str) -> dict[str, float] | None:
        """Metrics of the run by one way to choose its weights; None where the run did not measure that.

        Args:
            how: "last": test frames, weights of the last step. "best": test frames, weights that were best on validation
                frames that are no test frames. "best_on_test": test frames, weights that were best on these, which is how
                LibMTL reports, and flatters. "mean_of_last": validation frames, mean over the last evaluations.
        """
        if how == "last" or (how == "best" and not self.validates_on_test):
            return finite_metrics(self.records.test(how))
        if how == "best":
            return None
        if how == "best_on_test":
            return finite_metrics(self.records.test("best")) if self.validates_on_test else best_on_test(self.records)
        if how == "mean_of_last":
            return mean_of_last(self.records, count=AVERAGED_EVALUATIONS)
        raise ValueError(f"unknown way to choose weights: {how!r}")


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row with its runs, one per seed."""

    row: Row
    runs: tuple[RunResult, ...]

    @property
    def finished(self) -> tuple[RunResult, ...]:
        """Runs that came to their end and measured the test frames."""
        return tuple(run for run in self.runs if run.records.finished and run.chosen("last"))

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the row's model predicts."""
        return self.runs[0].run.settings.model.tasks

    @property
    def parameters(self) -> int:
        """Weights of the model; 0 when no run has told."""
        return max((run.records.parameters for run in self.runs), default=0)

    @property
    def seeds(self) -> frozenset[int]:
        """Of the finished runs."""
        return frozenset(run.run.seed for run in self.finished)

    def per_seed(self, how: str = "last", *, seeds: Collection[int] | None = None) -> list[dict[str, float]]:
        """Metrics of every finished run, or of those with one of `seeds`."""
        runs = [run for run in self.finished if seeds is None or run.run.seed in seeds]
        return [found for run in runs if (found := run.chosen(how)) is not None]

    def metrics(self, how: str = "last", *, seeds: Collection[int] | None = None) -> dict[str, Measured]:
        """Mean and spread over seeds, all or those given, of every metric that all those runs have."""
        found = self.per_seed(how, seeds=seeds)
        names = [name for name in (metric_keys(found[0]) if found else ()) if all(name in one for one in found)]
        return {name: Measured.over([one[name] for one in found]) for name in names}

    def means(self, how: str = "last") -> dict[str, float]:
        """As `metrics`, the means alone."""
        return {name: value.mean for name, value in self.metrics(how).items()}


@dataclass(frozen=True, slots=True)
class Results:
    """All rows of a study, in its order."""

    study: Study
    rows: tuple[RowResult, ...]

    @property
    def tasks(self) -> Specs:
        """Every task of the frames that the rows learn from."""
        return {name: spec for row in self.rows for name, spec in data_tasks(row.runs[0].run.settings.data).items()}

    @property
    def truths(self) -> tuple[Truths, ...]:
        """How truths were made, of every finished run."""
        return tuple(run.truths for row in self.rows for run in row.finished)

    @property
    def pseudo(self) -> frozenset[str]:
        """Keys of the measures whose truth was computed, not measured."""
        return pseudo_keys(self.truths, self.tasks)

    def called(self, task: str) -> str:
        """A task in sentences: marked where its truth was computed."""
        return f"{task} (pseudo)" if task in pseudo_tasks(self.truths) else task

    def __getitem__(self, name: str) -> RowResult:
        for row in self.rows:
            if row.row.name == name:
                return row
        raise KeyError(name)

    def get(self, name: str | None) -> RowResult | None:
        """The row if it has a finished run."""
        return next((row for row in self.rows if row.row.name == name and row.finished), None)

    @property
    def reference(self) -> RowResult | None:
        """The shared model that others are compared with, if it is finished."""
        return self.get(self.study.reference)

    @property
    def singles(self) -> dict[str, RowResult]:
        """Task -> the finished row that was trained for it alone."""
        found = {task: self.get(name) for task, name in self.study.single.items()}
        return {task: row for task, row in found.items() if row is not None}

    def single_metrics(self, how: str = "last") -> dict[str, float]:
        """Mean metrics of the single-task models together: the baseline of delta-m."""
        result: dict[str, float] = {}
        for row in self.singles.values():
            result.update(row.means(how))
        return result

    def in_group(self, group: str) -> list[RowResult]:
        """Rows of a table, finished or not."""
        return [row for row in self.rows if group in row.row.groups]


def collect_results(study: Study, runs: Iterable[PlannedRun]) -> Results:
    """Read what the runs wrote. Raises StudyError: damaged records."""
    by_row: dict[str, list[RunResult]] = {row.name: [] for row in study.rows}
    for run in runs:
        by_row[run.row.name].append(RunResult(run, read_records(run.folder), read_outcome(run.folder)))
    return Results(study, tuple(RowResult(row, tuple(by_row[row.name])) for row in study.rows if by_row[row.name]))
