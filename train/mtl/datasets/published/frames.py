"""Frames of a published data set: its images and truths, read when a frame is asked for. Knows listings; knows no layout."""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import KINDS, Specs, TaskSpec
from mtl.datasets.data_set import Split
from mtl.datasets.folder.reading import read_photo
from mtl.datasets.frame import Frame, TruthNote
from mtl.datasets.published.index_cache import Names, Table
from mtl.datasets.published.left_out import LeftOut
from mtl.geometry import canonical_intrinsics

if TYPE_CHECKING:
    from mtl.datasets.published.data_set import PublishedSet
    from mtl.settings import DataSettings

__all__ = [
    "Listing",
    "Part",
    "PublishedFrames",
    "PublishedRequest",
    "TableListing",
    "read_listed",
    "renamed",
    "spread",
    "task_of",
]


class Listing(Protocol):
    """The frames of one split, by number; opens no image."""

    @property
    def where(self) -> str:
        """The file or folder that it was made of, for messages."""

    @property
    def names(self) -> Names:
        """Its images, below some folder."""

    @property
    def specs(self) -> Specs:
        """The tasks that frames may have truths of, by the names that the data set gives them."""

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """What is not among the frames, or not among their truths."""

    def __len__(self) -> int: ...

    def image(self, number: int) -> Path: ...

    def pixels(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of an image. Raises BuildError naming the file that cannot be used."""

    def known(self, number: int) -> frozenset[str]:
        """The tasks that a frame has truths of."""

    def truths(self, number: int, size: tuple[int, int]) -> dict[str, Any]:
        """The truths of a frame whose image is `size` (H, W). Raises BuildError naming what cannot be used."""

    def listed_classes(self, task: str) -> np.ndarray | None:
        """Of a task of the kind "class", (frames,) int64, -1 where none is known; None of any other task."""

    @property
    def truth_notes(self) -> Mapping[str, TruthNote]:
        """See `mtl.datasets.frame.truth_notes`, by the data set's own names."""


class TableListing(ABC):
    """What listings over a table have alike."""

    __slots__ = ()
    table: Table
    names: Names

    @abstractmethod
    def image(self, number: int) -> Path:
        """See `Listing`."""

    def pixels(self, number: int) -> np.ndarray:
        """See `Listing`: a photo."""
        return read_photo(self.image(number))

    @property
    def truth_notes(self) -> Mapping[str, TruthNote]:
        """See `Listing`."""
        return {}

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """See `Listing`."""
        return [LeftOut.of_dict(one) for one in self.table.meta["left_out"]]

    def __len__(self) -> int:
        return len(self.names)

    def listed_classes(self, task: str) -> np.ndarray | None:
        """See `Listing`."""
        return None


class PublishedFrames:
    """Frames of a listing, each with the truths that there are, seen by the canonical camera: theirs is not known.

    A frame that cannot be read is an error; where `data.may_skip` lets that many be left out, the next one that can be read
    stands in its place, so that a number always gives the same frame, and its name is printed once.
    """

    def __init__(self, listing: Listing, numbers: Sequence[int], data: DataSettings) -> None:
        self._listing, self._numbers, self._data = listing, numbers, data
        self._broken: set[int] = set()
        self.tasks: Specs = renamed(listing.specs, data.task_names)
        self.truth_notes = {data.task_names.get(task, task): note for task, note in listing.truth_notes.items()}

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`. Raises BuildError naming the file that cannot be used."""
        if not 0 <= index < len(self._numbers):
            raise IndexError(index)
        for step in range(len(self._numbers)):
            number = int(self._numbers[(index + step) % len(self._numbers)])
            if number in self._broken:
                continue
            try:
                frame = read_listed(self._listing, number)
            except BuildError as exc:
                self._leave_out(number, exc)
                continue
            names = self._data.task_names
            return replace(frame, truths={names.get(task, task): truth for task, truth in frame.truths.items()})
        raise BuildError(
            f"{self._listing.where}: no frame can be read. Run: python train/validate_dataset.py {self._data.root}"
        )

    def known(self, index: int) -> frozenset[str]:
        """The tasks that frame `index` has truths of; opens no file."""
        found = self._listing.known(int(self._numbers[index]))
        return frozenset(self._data.task_names.get(task, task) for task in found)

    def listed_classes(self, task: str) -> np.ndarray | None:
        """See `mtl.datasets.frame.listed_classes`."""
        own = next((own for own, name in self._data.task_names.items() if name == task), task)
        found = self._listing.listed_classes(own)
        return None if found is None else found[np.asarray(self._numbers, np.int64)]

    def _leave_out(self, number: int, problem: BuildError) -> None:
        count, allowed = len(self._broken) + 1, self._data.may_skip * len(self._numbers)
        if count > allowed:
            more = f"; {count} of {len(self._numbers)} frames, more than data.may_skip = {self._data.may_skip:g}"
            hint = "Or leave such frames out: data.may_skip is the share of them that may be"
            raise BuildError(f"{str(problem).rstrip('.')}. {hint}" if allowed < 1 else f"{problem}{more}") from problem
        self._broken.add(number)
        print(f"left out: {problem}", file=sys.stderr)


def read_listed(listing: Listing, number: int) -> Frame:
    """A frame by its number in the listing, its tasks by the data set's own names. Raises BuildError."""
    image = listing.pixels(number)
    size = (image.shape[0], image.shape[1])
    return Frame(image, listing.truths(number, size), canonical_intrinsics(*size))


def task_of(kind: str, name: str, classes: Sequence[str], *, where: str, **more: Any) -> TaskSpec:
    """A task of a kind that has classes. Raises BuildError: their names are none that a bundle may have.

    Args:
        more: what else manifests say of such a task.
    """
    try:
        return KINDS[kind].spec(name, {"classes": list(classes), **more})
    except ValueError as exc:
        raise BuildError(f"{where}: {exc}. Mend the names there") from exc


def renamed(specs: Specs, names: Mapping[str, str]) -> Specs:
    """Tasks by the names that a run gives them. Raises BuildError where a name is of no task, or two get the same."""
    for own in names:
        if own not in specs:
            raise BuildError(f"data.task_names.{own} is not a task of this data set: expected some of {', '.join(specs)}")
    found = {names.get(own, own): replace(spec, name=names.get(own, own)) for own, spec in specs.items()}
    if len(found) < len(specs):
        raise BuildError(f"data.task_names gives two tasks one name: {dict(names)}. Give each its own")
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """Which frames of a listing: those by the hash of whose names, so that it does not depend on how files are listed.

    Attributes:
        aside: how many training frames are set aside for validation.
        take: "all", those set aside, or the rest.
        first: only this many of them, 0 for all.
    """

    aside: int = 0
    take: str = "all"
    first: int = 0

    def numbers(self, listing: Listing) -> Sequence[int]:
        """Numbers of frames, rising."""
        if not self.aside and not self.first:
            return range(len(listing))
        names = listing.names
        order = sorted(range(len(listing)), key=lambda number: _hashed(names[number]))
        chosen = {"all": order, "aside": order[: self.aside], "rest": order[self.aside :]}[self.take]
        return sorted(chosen[: self.first] if self.first else chosen)


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` numbers of 0..count-1, evenly spaced."""
    wanted = min(wanted, count)
    return [int((place + 0.5) * count / wanted) for place in range(wanted)]


def _hashed(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()


@dataclass(frozen=True, slots=True)
class PublishedRequest:
    """Frames by description.

    Attributes:
        known: the data set.
        split: whose listing they are of.
        part: which of them.
    """

    known: PublishedSet
    data: DataSettings
    split: Split
    part: Part = Part()

    def open(self, *, workers: int = 1, progress: bool = False) -> PublishedFrames:
        """The frames; files are read when a frame is asked for. `workers` is of no use here.

        Raises:
            BuildError: the data set cannot be used, has no such frames, or more of it cannot be used than `data.may_skip`.
        """
        listing = self.known.listing(self.data, self.split)
        for one in listing.left_out:
            one.check(listing.where, self.data.may_skip)
            if progress and one.count:
                print(f"{listing.where}: left out {one.count} of {one.of} {one.what}: {one.reasons[0]}", file=sys.stderr)
        numbers = self.part.numbers(listing)
        if not len(numbers):
            raise BuildError(f"{listing.where}: no frames to take: it has {len(listing)}, data.validation_from_train is "
                             f"{self.data.validation_from_train}. Set fewer aside")  # fmt: skip
        return PublishedFrames(listing, numbers, self.data)
