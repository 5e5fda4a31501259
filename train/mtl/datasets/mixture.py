"""Several data sets in one run: a data set whose frames are of named sources, each of which labels some of the tasks.

A batch is of one source. Which one is a function of the stage and the step (`Turns`), so that a resumed run goes on exactly
and every process of a run has frames of the same source at the same step. Knows data sets; knows no networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs, TaskSpec, kind_of, ordered
from mtl.datasets.data_set import DataSet, FrameRequest, Split
from mtl.datasets.disjoint import dealt
from mtl.datasets.frame import Frame, FrameSource, listed_classes

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = ["Mixture", "MixtureFrames", "MixtureRequest", "Turns", "calibration_shares", "deployed_source", "shares"]

_SHOWN = 100


class Turns:
    """Whose turn it is at every step of a stage.

    After n steps every source has had n times its share of them, to within one batch: the next is always the source that is
    furthest behind, the first of several.

    Args:
        shares: of the batches, by source, more than 0 each; any scale.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.names = tuple(shares)
        weights = np.array(list(shares.values()), np.float64)
        self._shares = weights / weights.sum()
        self._had = np.zeros(len(self.names), np.int64)
        self._turns: list[tuple[int, int]] = []

    def at(self, step: int) -> tuple[str, int]:
        """The source of step number `step` (from 0), and how many batches of it came before."""
        while len(self._turns) <= step:
            behind = (len(self._turns) + 1) * self._shares - self._had
            one = int(np.argmax(behind > behind.max() - 1e-9))
            self._turns.append((one, int(self._had[one])))
            self._had[one] += 1
        one, before = self._turns[step]
        return self.names[one], before


def shares(data: DataSettings, stage: Stage) -> dict[str, float]:
    """The ratios of the sources that a stage takes frames of, by name in alphabetical order; empty for a single data set."""
    every = {name: stage.ratios.get(name, data.sources[name].ratio) for name in sorted(data.sources)}
    return {name: ratio for name, ratio in every.items() if ratio > 0}


def deployed_source(data: DataSettings, last: Stage) -> str:
    """The source whose statistics an exported network has: `data.deploy_source`, or that of the largest ratio of the last
    stage, the first of several in alphabetical order."""
    ratios = shares(data, last)
    return data.deploy_source or max(ratios, key=ratios.__getitem__)


def calibration_shares(data: DataSettings) -> dict[str, float]:
    """How much of what INT8 is calibrated with is of each source, by name: as their own ratios say, whatever a stage does
    (decision 0019); the same of all where all ratios are 0."""
    ratios = {name: one.ratio for name, one in sorted(data.sources.items()) if one.ratio > 0}
    return ratios or dict.fromkeys(sorted(data.sources), 1.0)


def joined_tasks(by_source: Mapping[str, Specs]) -> Specs:
    """The tasks of all sources. Raises BuildError where two mean different things by one name."""
    from mtl.tasks import head_of  # with torch, which reading settings alone does without

    found: dict[str, TaskSpec] = {}
    first: dict[str, str] = {}
    for source, specs in by_source.items():
        for task, spec in specs.items():
            before = found.get(task)
            if before is None:
                found[task], first[task] = spec, source
                continue
            both = head_of(spec).joined(before, spec) if before.kind == spec.kind else None
            if both is None:
                raise BuildError(
                    f"the task {task} is not the same in data.sources.{first[task]} ({_described(before)}) and in "
                    f"data.sources.{source} ({_described(spec)}). Give one of them another name, or both the same classes"
                )
            found[task] = both
    return ordered(found)


def _described(spec: TaskSpec) -> str:
    entry = {"kind": spec.kind, **kind_of(spec).describe(spec)}
    text = ", ".join(f"{key} {value}" for key, value in entry.items())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


class Mixture(DataSet):
    """See the module.

    Args:
        data: whose `sources` it is made of.
        sets: the data set of every source.
    """

    name = "mixture"
    frames = "frames of several sources"

    def __init__(self, data: DataSettings, sets: Mapping[str, DataSet]) -> None:
        self._sets = dict(sorted(sets.items()))
        self._data = {name: _as_data_set(data, name) for name in self._sets}

    def title(self, data: DataSettings) -> str:
        return "; ".join(f"{name}: {one.title(self._data[name])}" for name, one in self._sets.items())

    def licence(self, data: DataSettings) -> str:
        return "; ".join(f"{name}: {one.licence(self._data[name])}" for name, one in self._sets.items())

    def redistributable(self, data: DataSettings) -> bool:
        return all(one.redistributable(self._data[name]) for name, one in self._sets.items())

    def parts(self, data: DataSettings) -> tuple[tuple[DataSet, DataSettings], ...]:
        return tuple((one, self._data[name]) for name, one in self._sets.items())

    def tasks(self, data: DataSettings) -> Specs:
        """The tasks of all sources. Raises BuildError where two mean different things by one name."""
        return joined_tasks(self.tasks_by_source())

    def tasks_by_source(self) -> dict[str, Specs]:
        """What each source labels."""
        return {name: one.tasks(self._data[name]) for name, one in self._sets.items()}

    def with_truths(self, data: DataSettings, tasks: Sequence[str]) -> DataSettings:
        """Sources are asked only for tasks that none of them has anyway: theirs may mean something else."""

        def asked(tasks: Sequence[str]) -> dict[str, Any]:
            return {name: self._sets[name].with_truths(one, tasks) for name, one in data.sources.items()}

        if asked(tasks) == data.sources:
            return data
        found = {task for specs in self.tasks_by_source().values() for task in specs}
        return replace(data, sources=asked([task for task in tasks if task not in found]))

    def train_frames(self, data: DataSettings, stage: Stage) -> MixtureRequest:
        requests = {
            name: dealt(one.train_frames(self._data[name], stage), self._data[name].disjoint)
            for name, one in self._sets.items()
        }
        return MixtureRequest(tuple(requests.items()), tuple(shares(data, stage).items()))

    def held_out_frames(self, data: DataSettings, split: Split) -> MixtureRequest:
        requests = {name: one.held_out_frames(self._data[name], split) for name, one in self._sets.items()}
        return MixtureRequest(tuple(requests.items()))

    def train_count(self, data: DataSettings) -> int:
        return sum(one.train_count(self._data[name]) for name, one in self._sets.items())

    def counts(self, data: DataSettings) -> str:
        return "; ".join(f"{name}: {one.counts(self._data[name])}" for name, one in self._sets.items())

    def validates_on_test(self, data: DataSettings) -> bool:
        return any(one.validates_on_test(self._data[name]) for name, one in self._sets.items())

    def problem(self, data: DataSettings) -> str | None:
        for name, one in self._sets.items():
            found = one.problem(self._data[name])
            if found is not None:
                return f"data.sources.{name}: {found}"
        return None


def _as_data_set(data: DataSettings, name: str) -> DataSettings:
    """The settings of a source, as those of a data set of its own."""
    return replace(data.sources[name], canonical=data.canonical, workers=data.workers)


@dataclass(frozen=True, slots=True)
class MixtureRequest:
    """Frames of several sources by description.

    Attributes:
        requests: of every source, by name.
        shares: of the batches, by source, for frames to train on.
    """

    requests: tuple[tuple[str, FrameRequest], ...]
    shares: tuple[tuple[str, float], ...] = ()

    def open(self, *, workers: int = 1, progress: bool = False) -> MixtureFrames:
        """All of them. Raises BuildError as the sources do."""
        opened = {name: request.open(workers=workers, progress=progress) for name, request in self.requests}
        return MixtureFrames(opened, dict(self.shares))


class MixtureFrames:
    """The frames of all sources as one, each source spread evenly over the whole: the first n are a fair sample.

    Attributes:
        tasks: of all sources.
        sources: the frames of each, by name.
        shares: see `MixtureRequest`.
    """

    def __init__(self, sources: Mapping[str, FrameSource], shares: Mapping[str, float]) -> None:
        self.tasks = tasks = joined_tasks({name: one.tasks for name, one in sources.items()})
        self.sources = {name: SourceFrames(one, tasks) for name, one in sources.items()}
        self.shares = dict(shares)
        places = [np.arange(0.5, len(one)) / len(one) for one in sources.values()]
        owners = np.repeat(np.arange(len(places)), [len(one) for one in places])
        numbers = np.concatenate([np.arange(len(one)) for one in places])
        order = np.argsort(np.concatenate(places), kind="stable")
        self._where: Sequence[tuple[int, int]] = list(zip(owners[order].tolist(), numbers[order].tolist(), strict=True))
        self._frames = list(sources.values())

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> Frame:
        source, number = self._where[index]
        return self._frames[source][number]

    def numbers_of(self, source: str) -> list[int]:
        """The numbers that the frames of a source have here, rising."""
        owner = list(self.sources).index(source)
        return [index for index, (one, _) in enumerate(self._where) if one == owner]

    def known(self, index: int) -> frozenset[str]:
        """The tasks that frame `index` has truths of, as far as its source tells without opening it, else all of the source."""
        source, number = self._where[index]
        frames = self._frames[source]
        return frozenset(frames.known(number)) if hasattr(frames, "known") else frozenset(frames.tasks)

    def listed_classes(self, task: str) -> np.ndarray | None:
        """See `mtl.datasets.frame.listed_classes`; in the order of the sources."""
        found = [listed_classes(one, task) for one in self._frames if task in one.tasks]
        known = [one for one in found if one is not None]
        return np.concatenate(known) if known and len(known) == len(found) else None


class SourceFrames:
    """The frames of one source of a mixture.

    Attributes:
        tasks: of the whole mixture, so that measures have the same names for every source.
        own: those that this source may label.
    """

    def __init__(self, frames: FrameSource, tasks: Specs) -> None:
        self.tasks, self.own = tasks, frames.tasks
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        return self._frames[index]
