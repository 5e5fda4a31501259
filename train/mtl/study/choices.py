"""Which of a run's weights its numbers are of: the last, or chosen on some frames. Knows records and metrics by name."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from edge_mtl.numbers import is_number
from mtl.study.records import RunRecords
from mtl.tasks.columns import metric_keys, score

__all__ = ["best_on_test", "best_validation", "finite_metrics", "mean_of_last"]

Metrics = dict[str, float]


def best_validation(records: RunRecords) -> Metrics | None:
    """The best evaluation on validation frames during training, with its "step"."""
    found = [{**own, "step": float(one["step"])} for one in records.validations if (own := finite_metrics(one)) is not None]
    return max(found, key=score) if found else None


def best_on_test(records: RunRecords) -> Metrics | None:
    """The best of tests at several steps: chosen on the test frames, as LibMTL reports, and so too good."""
    found = [own for one in records.tests if (own := finite_metrics(one)) is not None]
    return max(found, key=score) if len({one["step"] for one in records.tests}) > 1 else None


def mean_of_last(records: RunRecords, *, count: int) -> Metrics | None:
    """Mean over the last `count` evaluations on validation frames, of the metrics that all of them have."""
    last = [own for one in records.validations[-count:] if (own := finite_metrics(one)) is not None] if count > 0 else []
    names = [name for name in (metric_keys(last[0]) if last else ()) if all(name in one for one in last)]
    return {name: fmean(one[name] for one in last) for name in names} or None


def finite_metrics(record: Mapping[str, Any] | None) -> Metrics | None:
    """The finite metrics of a record; None when it has none."""
    if record is None:
        return None
    return {name: float(record[name]) for name in metric_keys(record) if is_number(record.get(name))} or None
