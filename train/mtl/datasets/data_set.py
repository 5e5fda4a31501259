"""What a data set is to training: its tasks, which frames feed which stage and split, and what bundles say of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from edge_mtl.tasks import Specs
from mtl.datasets.frame import FrameSource

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = ["DEFAULT_ROOT", "OPTIONS", "DataSet", "FrameRequest", "Split"]

DEFAULT_ROOT = "data/rooms"
"""`data.root` where a configuration names none."""

OPTIONS = ("task_names", "may_skip", "annotations", "conditions")
"""Settings of [data] that only some data sets have a use for."""

Split = Literal["train", "val", "test"]


class FrameRequest(Protocol):
    """A picklable description of frames, which opens them where they are needed."""

    def open(self, *, workers: int = 1, progress: bool = False) -> FrameSource:
        """The frames, made first by `workers` processes where they can be made. Raises BuildError when there are none."""


class DataSet(ABC):
    """One data set, as `mtl.datasets.sources.register` adds it.

    Class attributes:
        name: `data.kind` in settings.
        frames: what reports call its frames.
        renders: whether frames that are missing are made in its folder when they are asked for.
        options: which of `OPTIONS` it heeds.
    """

    name: ClassVar[str]
    frames: ClassVar[str]
    renders: ClassVar[bool] = False
    options: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def title(self, data: DataSettings) -> str:
        """What it is called in provenance, cards and reports."""

    @abstractmethod
    def licence(self, data: DataSettings) -> str:
        """Under which terms its frames may be used, in words; where nothing is stated, that nothing is."""

    @abstractmethod
    def redistributable(self, data: DataSettings) -> bool:
        """Whether its images may be copied into what is passed on: bundles, reports and cards.

        False unless its terms allow that: what is trained on it then travels without its images.
        """

    def pseudo_labels(self, data: DataSettings) -> Mapping[str, Any]:
        """Which networks labelled how many of its frames, for provenance; empty where people or a renderer labelled all."""
        return {}

    def parts(self, data: DataSettings) -> tuple[tuple[DataSet, DataSettings], ...]:
        """The data sets that frames come from, each with its settings: this one, or those that are mixed in it."""
        return ((self, data),)

    @abstractmethod
    def tasks(self, data: DataSettings) -> Specs:
        """What frames may have truths of. Raises BuildError where a file that says so is missing."""

    def with_truths(self, data: DataSettings, tasks: Sequence[str]) -> DataSettings:
        """Settings of the same frames with truths of `tasks` too, where they have some of them only on demand.

        As they are by default: most data sets give all that they have.
        """
        return data

    @abstractmethod
    def train_frames(self, data: DataSettings, stage: Stage) -> FrameRequest:
        """The training frames of a stage."""

    @abstractmethod
    def held_out_frames(self, data: DataSettings, split: Split) -> FrameRequest:
        """The validation or test frames."""

    @abstractmethod
    def train_count(self, data: DataSettings) -> int:
        """How many training frames there are where a stage names no number."""

    @abstractmethod
    def counts(self, data: DataSettings) -> str:
        """How many frames each split has, for reports."""

    def holds(self, root: Path) -> bool:
        """Whether a folder can be told to be this data set's, by its files."""
        return False

    def one_camera(self, data: DataSettings) -> bool:
        """Whether all frames are of one camera, so that a network may answer for it instead of the canonical one."""
        return False

    def validates_on_test(self, data: DataSettings) -> bool:
        """Whether the validation frames are the test frames."""
        return False

    def problem(self, data: DataSettings) -> str | None:
        """What cannot work in settings, for an error message; None where all is well."""
        return None
