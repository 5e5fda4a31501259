"""What a run did, for people and as JSON: a table by task, the classes seen, remarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mtl.pseudo_labels.labelling import Labelled
from mtl.pseudo_labels.records import RECORDS

__all__ = ["remarks", "summary", "summary_table"]

_CLASSES_SHOWN = 8


def summary(labelled: Labelled) -> dict[str, Any]:
    """By task: frames, share of the pixels kept, shares of classes; what was left alone and why."""
    return {
        "bundle": labelled.engine.name,
        "engine": f"{labelled.engine.precision} on {labelled.engine.backend}",
        "tasks": {task: _of_task(labelled, task) for task in labelled.tasks},
        "unreadable": list(labelled.skipped),
        "stopped": labelled.stopped,
    }


def summary_table(labelled: Labelled) -> Table:
    """One row a task."""
    table = Table(title=f"pseudo-labels of {labelled.engine.name} in {labelled.description.root}")
    table.add_column("task")
    for heading in ("labelled now", "before", "left alone", "held out", "pixels kept %"):
        table.add_column(heading, justify="right")
    table.add_column("classes, % of all pixels")
    for task in labelled.tasks:
        row = _of_task(labelled, task)
        kept = row["kept"]
        counts = [str(row[key]) for key in ("labelled_now", "labelled_before", "left_alone", "held_out")]
        table.add_row(task, *counts, "" if kept is None else f"{100 * kept:.1f}", _classes(row["classes"]))
    return table


def remarks(labelled: Labelled) -> list[str]:
    """What a person should know besides, sentences."""
    found = []
    for task, paths in labelled.plan.theirs.items():
        if paths:
            found.append(
                f"{task}: {len(paths)} files are not recorded as pseudo-labels, or were changed: left alone ({paths[0]}, ...)"
            )
    if held := [f"{task} {count}" for task, count in labelled.plan.held_out.items() if count]:
        found.append(
            f"frames of val and test without a label of a person stay without: {', '.join(held)}. Labels of a network there "
            "would measure agreement with it; --held-out label makes them all the same"
        )
    if labelled.plan.measured:
        found.append(
            f"val and test have pseudo-labels of {', '.join(labelled.plan.measured)}: what is measured on them is agreement "
            f"with {labelled.engine.name}, not accuracy. Label some of those frames by hand"
        )
    if labelled.skipped:
        found.append(f"{len(labelled.skipped)} images could not be used")
    found.append(f"{RECORDS} says which files are pseudo-labels; --remove deletes them")
    return found


def _of_task(labelled: Labelled, task: str) -> dict[str, Any]:
    entries = [entry for stem in labelled.stems(task) if (entry := labelled.records.entry(task, stem)) is not None]
    totals: dict[str, float] = {}
    for entry in entries:
        for name, share in entry.classes.items():
            totals[name] = totals.get(name, 0.0) + share / len(entries)
    return {
        "labelled_now": len(labelled.written[task]),
        "labelled_before": len(labelled.plan.done[task]),
        "left_alone": len(labelled.plan.theirs[task]),
        "held_out": labelled.plan.held_out[task],
        "kept": sum(entry.kept for entry in entries) / len(entries) if entries else None,
        "classes": dict(sorted(totals.items(), key=lambda item: -item[1])),
    }


def _classes(shares: Mapping[str, float]) -> str:
    shown = [f"{name} {100 * share:.1f}" for name, share in list(shares.items())[:_CLASSES_SHOWN]]
    return ", ".join(shown) + (f", {len(shares) - _CLASSES_SHOWN} more" if len(shares) > _CLASSES_SHOWN else "")
