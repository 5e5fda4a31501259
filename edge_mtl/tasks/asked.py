"""Which tasks are asked for, how certain their answers should be, and results that are finished when they are read: what
nobody wants costs no post-processing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal

from edge_mtl.errors import TaskError
from edge_mtl.tasks import Result, Specs, kind_of
from edge_mtl.tasks.kind import Once

__all__ = ["Finish", "LazyResults", "MinScore", "asked_of", "with_min_score"]

Finish = Literal["now", "lazily"]
"""When results are finished: before a prediction is handed over, or each when it is first read."""

MinScore = float | Mapping[str, float]
"""The least score that is answered: of all tasks whose results are scored one by one, such as boxes, or by task."""

Finisher = Callable[[], tuple[Result, int]]
"""Makes a result, and counts its values that cannot be used."""


def asked_of(specs: Specs, tasks: Collection[str] | None, *, whose: str = "This bundle") -> Specs:
    """The tasks asked for, in the order of `specs`; all of them for None.

    Args:
        whose: what has the tasks `specs`, for the message.
    Raises:
        TaskError: a name that is none of them, no name at all, or one text in place of names.
    """
    if tasks is None:
        return specs
    known = f"{whose} predicts {', '.join(specs)}"
    if isinstance(tasks, str):
        raise TaskError(f"tasks should be names, such as ({tasks!r},); found the text {tasks!r}. {known}.")
    if not tasks:
        raise TaskError(f"tasks should name at least one task, or be None for all; found none. {known}.")
    if unknown := [name for name in tasks if name not in specs]:
        raise TaskError(f"There is no task {', '.join(map(repr, unknown))}. {known}.")
    return {name: spec for name, spec in specs.items() if name in tasks}


def with_min_score(specs: Specs, min_score: MinScore | None, *, whose: str = "This bundle") -> Specs:
    """The tasks, of which those that score what they find answer only what is at least so certain; as they are for None.

    Args:
        whose: as in `asked_of`.
    Raises:
        TaskError: a task that is not there or whose results have no scores, or a score that it cannot have; see
            `Kind.with_min_score`.
    """
    if min_score is None:
        return specs
    by_task = min_score if isinstance(min_score, Mapping) else dict.fromkeys(specs, min_score)
    if unknown := [name for name in by_task if name not in specs]:
        raise TaskError(f"min_score: there is no task {', '.join(map(repr, unknown))}. {whose} predicts {', '.join(specs)}.")
    try:
        given = {name: kind_of(specs[name]).with_min_score(specs[name], score) for name, score in by_task.items()}
    except ValueError as exc:
        raise TaskError(str(exc)) from exc
    found = {name: spec for name, spec in given.items() if spec is not None}
    if len(found) < len(given) and (isinstance(min_score, Mapping) or not found):
        without = ", ".join(name for name in given if name not in found)
        raise TaskError(f"min_score is for tasks that score what they find, such as boxes; found {without}. Leave it out.")
    return {**specs, **found}


class LazyResults(Mapping[str, Result]):
    """Results by task, each finished when it is first read, once, whichever thread reads it.

    Going through the names finishes nothing. A result that was not read yet holds the outputs of the graph that it needs.

    Args:
        specs: the tasks.
        finishers: by task.
        map_size: (height, width) of the maps.
    """

    __slots__ = ("_once", "_specs", "map_size")

    def __init__(self, specs: Specs, finishers: Mapping[str, Finisher], map_size: tuple[int, int]) -> None:
        self._specs = specs
        self._once = {name: Once(finishers[name]) for name in specs}
        self.map_size = map_size

    def __getitem__(self, task: str) -> Result:
        return self._once[task].get()[0]

    def __contains__(self, task: object) -> bool:
        return task in self._once

    def __iter__(self) -> Iterator[str]:
        return iter(self._once)

    def __len__(self) -> int:
        return len(self._once)

    @property
    def finished(self) -> tuple[str, ...]:
        """The tasks whose results were read."""
        return tuple(name for name, once in self._once.items() if once.made)

    @property
    def bad_values(self) -> int:
        """Of the results that were read: places where the network's answer cannot be used."""
        return sum(once.get()[1] for once in self._once.values() if once.made)

    def of_class(self, kind: type[Result]) -> tuple[str, ...]:
        """The tasks whose results are of a class, told without finishing them."""
        return tuple(name for name, spec in self._specs.items() if issubclass(kind_of(spec).result, kind))
