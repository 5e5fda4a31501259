"""What was run and what was not, for the report: steps, frames, machines, commits, failures. Knows results; draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from mtl.datasets.sources import data_set
from mtl.study.definition import load_study
from mtl.study.results import Results

__all__ = ["facts_of", "left_out"]

_ARITHMETIC = {"auto": "bf16 where the processor multiplies it, else fp32"}
"""What `loop.precision` says to people."""


def facts_of(results: Results) -> list[tuple[str, str]]:
    """What was run, where and for how long: names and values."""
    runs = [run for row in results.rows for run in row.runs if run.records.finished]
    if not runs:
        return [("runs", "none is finished")]
    settings = [run.run.settings for run in runs]
    stages = [one.stages[-1] for one in settings]
    data = data_set(settings[0].data)
    minutes = [run.outcome.seconds / 60 for run in runs if run.outcome is not None]
    places = [(run.outcome.machine, run.outcome.commit) for run in runs if run.outcome is not None]
    seeds = sorted({run.run.seed for run in runs})
    finished = [[run for run in row.runs if run.records.finished] for row in results.rows]
    fewer = any(0 < len(of_row) < len(seeds) for of_row in finished)
    planned = sum(len(row.runs) for row in results.rows if row.row.run)
    return [
        ("runs", f"{len(runs)} of {planned} finished, {sum(minutes):.0f} minutes of their processes together"),
        ("time of a run", _times(minutes, threads=[one.loop.threads for one in settings])),
        ("budget of a run", f"{_few([one.steps for one in settings])} steps of {_few([one.batch for one in stages])} frames"),
        ("size", _few([f"{one.height}x{one.width}" for one in stages])),
        ("frames", f"{data.frames}: {data.counts(settings[0].data)}"),
        *((f"truth of {task}", made) for task, made in _truths(results).items()),
        ("backbones", _few([one.model.backbone for one in settings])),
        ("arithmetic", _few([_ARITHMETIC.get(one.loop.precision, one.loop.precision) for one in settings])),
        ("seeds", ", ".join(map(str, seeds)) + ("; not every row ran all of them" if fewer else "")),
        ("machine", _few([machine for machine, _ in places if machine])),
        ("commit", _few([commit for _, commit in places if commit])),
    ]


def _times(minutes: Sequence[float], *, threads: Sequence[int]) -> str:
    """Of whole runs with their tests, whatever else the machine did; they are no measurement of speed."""
    if not minutes:
        return "not known"
    each = _few(["all cores" if one == 0 else f"{one} thread{'s' if one > 1 else ''}" for one in threads])
    between = f" ({min(minutes):.1f} to {max(minutes):.1f})" if len(minutes) > 1 else ""
    return f"{median(minutes):.1f} minutes{between}, test included, {each} each, beside whatever else the machine did"


def _truths(results: Results) -> dict[str, str]:
    """By task, how its truth was made, where that is known."""
    found: dict[str, list[str]] = {}
    for truths in results.truths:
        for task, note in truths.items():
            found.setdefault(task, []).append(note["made"] + (": computed, not measured" if note["pseudo"] else ""))
    return {task: _few(made) for task, made in found.items()}


def _few(values: Sequence[object]) -> str:
    """The different values, in order of appearance."""
    return ", ".join(dict.fromkeys(str(value) for value in values)) or "not known"


def left_out(results: Results) -> dict[str, tuple[str, ...]]:
    """What the report has no numbers of, and why; headings and lines."""
    not_run = (*(f"{row.row.name}: {row.row.reason}" for row in results.rows if not row.row.run), *_of_the_whole(results))
    failed, unfinished = [], []
    for run in (run for row in results.rows if row.row.run for run in row.runs):
        if run.failed and run.outcome is not None:
            failed.append(f"{run.run.row.name}, seed {run.run.seed}: exit code {run.outcome.exit_code}, {run.outcome.message}")
        elif not run.records.finished:
            unfinished.append(f"{run.run.row.name}, seed {run.run.seed}: {run.records.step} of {run.run.settings.steps} steps")
        elif not run.chosen("last"):
            unfinished.append(f"{run.run.row.name}, seed {run.run.seed}: finished without a test (loop.test_at_end)")
    return {"Not run": not_run, "Failed": tuple(failed), "Not finished": tuple(unfinished)}


def _of_the_whole(results: Results) -> list[str]:
    """The rows of the study that this one is a cut of, each under the first of its tables."""
    cut = results.study
    if cut.whole is None:
        return []
    whole = load_study(cut.path.parent / cut.whole.study)
    lines = [
        f"{cut.whole.study}, the study that this one is a cut of, and none of its {len(whole.rows)} rows: {cut.whole.reason}"
    ]
    for key, group in whole.groups.items():
        names = [row.name for row in whole.rows if row.groups[0] == key]
        lines += [f"of {cut.whole.study}, {group.title}: {'; '.join(names)}"] if names else []
    return lines
