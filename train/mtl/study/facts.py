"""What was run and what was not, for the report: steps, frames, machines, commits, failures. Knows results; draws nothing."""

from __future__ import annotations

from collections.abc import Sequence

from mtl.datasets.sources import data_set
from mtl.study.results import Results

__all__ = ["facts_of", "left_out"]


def facts_of(results: Results) -> list[tuple[str, str]]:
    """What was run, where and for how long: names and values."""
    runs = [run for row in results.rows for run in row.runs if run.records.finished]
    if not runs:
        return [("runs", "none is finished")]
    settings = [run.run.settings for run in runs]
    stages = [one.stages[-1] for one in settings]
    data = data_set(settings[0].data)
    seconds = sum(run.outcome.seconds for run in runs if run.outcome is not None)
    places = [(run.outcome.machine, run.outcome.commit) for run in runs if run.outcome is not None]
    seeds = sorted({run.run.seed for run in runs})
    finished = [[run for run in row.runs if run.records.finished] for row in results.rows]
    fewer = any(0 < len(of_row) < len(seeds) for of_row in finished)
    planned = sum(len(row.runs) for row in results.rows if row.row.run)
    return [
        ("runs", f"{len(runs)} of {planned} finished, {seconds / 60:.0f} minutes of their processes together"),
        ("budget of a run", f"{_few([one.steps for one in settings])} steps of {_few([one.batch for one in stages])} frames"),
        ("size", _few([f"{one.height}x{one.width}" for one in stages])),
        ("frames", f"{data.frames}: {data.counts(settings[0].data)}"),
        ("backbones", _few([one.model.backbone for one in settings])),
        ("seeds", ", ".join(map(str, seeds)) + ("; not every row ran all of them" if fewer else "")),
        ("machine", _few([machine for machine, _ in places if machine])),
        ("commit", _few([commit for _, commit in places if commit])),
    ]


def _few(values: Sequence[object]) -> str:
    """The different values, in order of appearance."""
    return ", ".join(dict.fromkeys(str(value) for value in values)) or "not known"


def left_out(results: Results) -> dict[str, tuple[str, ...]]:
    """What the report has no numbers of, and why; headings and lines."""
    not_run = tuple(f"{row.row.name}: {row.row.reason}" for row in results.rows if not row.row.run)
    failed, unfinished = [], []
    for run in (run for row in results.rows if row.row.run for run in row.runs):
        if run.failed and run.outcome is not None:
            failed.append(f"{run.run.row.name}, seed {run.run.seed}: exit code {run.outcome.exit_code}, {run.outcome.message}")
        elif not run.records.finished:
            unfinished.append(f"{run.run.row.name}, seed {run.run.seed}: {run.records.step} of {run.run.settings.steps} steps")
        elif not run.chosen("last"):
            unfinished.append(f"{run.run.row.name}, seed {run.run.seed}: finished without a test (loop.test_at_end)")
    return {"Not run": not_run, "Failed": tuple(failed), "Not finished": tuple(unfinished)}
