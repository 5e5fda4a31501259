"""Every number of a report as plain data, for programs and for comparing two reports. Knows results and answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mtl.study.answers import answer_all
from mtl.study.comparison import Comparison
from mtl.study.cosines import pair_cosines
from mtl.study.results import Results
from mtl.study.timings import Latencies

__all__ = ["numbers_of"]


def numbers_of(results: Results, latencies: Latencies | None) -> dict[str, Any]:
    """Every number of the report, for programs."""
    compare = Comparison(results)
    rows = []
    for row in results.rows:
        against = compare.against_single(row) if row.finished else None
        rows.append(
            {
                "name": row.row.name,
                "groups": list(row.row.groups),
                "tasks": list(row.tasks),
                "run": row.row.run,
                "reason": row.row.reason,
                "truths": row.finished[0].truths if row.finished else {},
                "parameters": row.parameters,
                "seeds": {str(run.run.seed): run.chosen("last") for run in row.finished},
                "test_last": {name: asdict(value) for name, value in row.metrics("last").items()},
                "test_best": {name: asdict(value) for name, value in row.metrics("best").items()},
                "delta_m": None if against is None else asdict(against),
                "delta_m_every_metric": compare.delta_m_every_metric(row) if row.finished else None,
                "cosines": {
                    "+".join(one.pair): {"mean": one.mean, "negative_share": one.negative_share, "samples": len(one.values)}
                    for one in pair_cosines(row)
                },
            }
        )
    answers = [asdict(one) for one in answer_all(compare, latencies)]
    timed = asdict(latencies) if latencies is not None else None
    return {"study": results.study.name, "answers": answers, "rows": rows, "latency": timed}
