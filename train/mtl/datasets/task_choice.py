"""Which of the tasks that frames can have truths of they have: `data.tasks` in settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs

if TYPE_CHECKING:
    from mtl.settings import DataSettings

__all__ = ["chosen", "problem_of", "with_more"]


def chosen(names: Sequence[str], known: Specs, *, default: Collection[str]) -> Specs:
    """Those of the `known` tasks, in their order; the `default` ones where none is named. Raises BuildError for others."""
    wrong = [name for name in names if name not in known or names.count(name) > 1]
    if wrong:
        raise BuildError(f"data.tasks should be some of {', '.join(known)}, each once, found {wrong}")
    return {name: spec for name, spec in known.items() if name in (names or default)}


def problem_of(names: Sequence[str], known: Specs, *, default: Collection[str]) -> str | None:
    """What `chosen` says against them; None where it takes them."""
    try:
        chosen(names, known, default=default)
    except BuildError as exc:
        return str(exc)
    return None


def with_more(data: DataSettings, wanted: Sequence[str], known: Specs, *, default: Collection[str]) -> DataSettings:
    """The settings with those of the `known` tasks in `data.tasks` that are `wanted` too; themselves where there are none."""
    named = data.tasks or tuple(default)
    more = [task for task in known if task in wanted and task not in named]
    return replace(data, tasks=(*named, *more)) if more else data
