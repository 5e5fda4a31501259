"""What published data sets are to training: splits, counts and names of tasks, over the listings of their readers."""

from __future__ import annotations

import time
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from edge_mtl.tasks.kind import TASK_NAME
from mtl.datasets.data_set import DEFAULT_ROOT, DataSet, Split
from mtl.datasets.published.frames import Listing, Part, PublishedRequest, renamed

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = ["PublishedSet"]

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_TRUSTED_S = 1.0
_FOUND: dict[tuple[Any, ...], tuple[Listing, float]] = {}
"""Listings of this process, each with when it was made."""


class PublishedSet(DataSet):
    """See the module. "test" means the frames of "val" where there is no labelled test split.

    `data.validation_from_train` sets that many training frames aside for "val", chosen by a hash of their names; they are
    tested on too where there is no other held-out split. No camera is known: frames pass for those of the canonical camera, so
    that no task in metres can be learnt from them.
    """

    options: ClassVar[frozenset[str]] = frozenset({"task_names", "may_skip"})

    def listing(self, data: DataSettings, split: Split) -> Listing:
        """The frames of a split of its own; looked for again after a second at most, since a run asks at every step.

        Raises:
            BuildError: see `find`.
        """
        key, now = (self.name, data.root, split, *sorted(data.annotations.items())), time.monotonic()
        kept = _FOUND.get(key)
        if kept is None or now - kept[1] > _TRUSTED_S:
            _FOUND[key] = kept = (self.find(data, split), now)
        return kept[0]

    @abstractmethod
    def find(self, data: DataSettings, split: Split) -> Listing:
        """The frames of a split of its own, of files as they are now.

        Raises:
            BuildError: files are missing, or are not what they should be.
        """

    @abstractmethod
    def has(self, data: DataSettings, split: Split) -> bool:
        """Whether there is a split of its own of that name, with labels."""

    def remarks(self, listing: Listing) -> tuple[str, ...]:
        """What somebody who checks a listing should know, in sentences."""
        return ()

    def oddities(self, listing: Listing, number: int) -> tuple[str, ...]:
        """What is wrong with the files of a frame that can be read, in sentences; may open files."""
        return ()

    def redistributable(self, data: DataSettings) -> bool:
        return False

    def tasks(self, data: DataSettings) -> Specs:
        split: Split = next((one for one in _SPLITS if self.has(data, one)), _SPLITS[0])
        return renamed(self.listing(data, split).specs, data.task_names)

    def train_frames(self, data: DataSettings, stage: Stage) -> PublishedRequest:
        return PublishedRequest(self, data, "train", Part(data.validation_from_train, "rest", stage.train))

    def held_out_frames(self, data: DataSettings, split: Split) -> PublishedRequest:
        own, part = self._place_of(data, split)
        return PublishedRequest(self, data, own, part)

    def train_count(self, data: DataSettings) -> int:
        return len(self.listing(data, "train")) - data.validation_from_train

    def counts(self, data: DataSettings) -> str:
        aside = data.validation_from_train
        train = self.train_count(data) if self.has(data, "train") else "no"
        val, test = (
            aside if part.take == "aside" else len(self.listing(data, own))
            for own, part in (self._place_of(data, "val"), self._place_of(data, "test"))
        )
        found = f"{train} training, {val} validation, {test} test" + (" (the same)" if self.validates_on_test(data) else "")
        lost = self.listing(data, "train").left_out if self.has(data, "train") else ()
        gone = ", ".join(f"{one.count} of {one.of} {one.what}" for one in lost if one.count)
        return f"{found}; left out of training: {gone}" if gone else found

    def validates_on_test(self, data: DataSettings) -> bool:
        return self._place_of(data, "val") == self._place_of(data, "test")

    def problem(self, data: DataSettings) -> str | None:
        if not 0 <= data.may_skip < 1:
            return f"data.may_skip is a share, 0 or more and below 1; found {data.may_skip:g}"
        for own, name in data.task_names.items():
            if not TASK_NAME.fullmatch(name):
                return f"data.task_names.{own}: names of tasks match {TASK_NAME.pattern}; found {name!r}"
        if data.validation_from_train and self.train_count(data) < 1:
            return f"data.validation_from_train = {data.validation_from_train} leaves no frame to train on"
        return None

    def _place_of(self, data: DataSettings, split: Split) -> tuple[Split, Part]:
        """Where held-out frames are: in which split of its own, and which part of that."""
        if split == "test" and self.has(data, "test"):
            return "test", Part()
        if data.validation_from_train and (split == "val" or not self.has(data, "val")):
            return "train", Part(data.validation_from_train, "aside")
        return "val", Part()

    def root_of(self, data: DataSettings) -> Path:
        """Its folder. Raises BuildError where none is named, or there is none."""
        if data.root == DEFAULT_ROOT:
            raise BuildError(f"data.root is {DEFAULT_ROOT}, where rooms are: name the folder of {self.frames}, --data.root DIR")
        root = Path(data.root)
        if not root.is_dir():
            raise BuildError(f"there is no folder {root}: expected that of {self.frames}. Mend data.root")
        return root
