"""How the truths were made that figures compare with, for tables and remarks; see `mtl.datasets.frame.TruthNote`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edge_mtl.tasks import Specs, kind_of, scoped

__all__ = ["Truths", "pseudo_keys", "pseudo_tasks", "truth_remarks"]

Truths = Mapping[str, Mapping[str, Any]]
"""By task, the fields of its `TruthNote` as records and JSON have them: "made" and "pseudo"."""


def truth_remarks(every: Iterable[Truths]) -> tuple[str, ...]:
    """Sentences, once each, from what each of several models was measured against."""
    found: dict[str, None] = {}
    for truths in every:
        for task, note in truths.items():
            against = "Measured against pseudo-truth, which is computed, not measured" if note["pseudo"] else "Truth"
            found[f"{against}: {task}, {note['made']}."] = None
    return tuple(found)


def pseudo_tasks(every: Iterable[Truths]) -> frozenset[str]:
    """Tasks that some model was measured of against computed truth."""
    return frozenset(task for truths in every for task, note in truths.items() if note["pseudo"])


def pseudo_keys(every: Iterable[Truths], specs: Specs) -> frozenset[str]:
    """Keys of the measures of those tasks; `specs` are all tasks of the frames."""
    return frozenset(
        scoped(specs, specs[task], measure.name)
        for task in pseudo_tasks(every)
        for measure in kind_of(specs[task]).measures_of(specs[task])
    )
