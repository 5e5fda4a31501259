"""Frames that show the truth of one of several tasks only, as if each task had been labelled on images of its own.

What data sets of one task each do to a joint network (ImageNet has classes, COCO boxes, ADE20K maps) is so told apart from what
else differs between them. Knows frames; knows no files or networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.datasets.data_set import FrameRequest
from mtl.datasets.frame import Frame, FrameSource, TruthNote, truth_notes

__all__ = ["DisjointFrames", "DisjointRequest", "cannot_be_dealt", "dealt"]

_DEAL = 20
"""Part of the seed of who gets which frame; the same for every run."""


def dealt(request: FrameRequest, tasks: Sequence[str]) -> FrameRequest:
    """The frames with the truths of `tasks` dealt out between them; as they are where there are none to deal."""
    return DisjointRequest(request, tuple(tasks)) if tasks else request


def cannot_be_dealt(tasks: Sequence[str], known: Specs) -> str | None:
    """Why the truths of `tasks` cannot be dealt out between frames that label those of `known`; None where they can."""
    if len(set(tasks)) == len(tasks) >= 2 and set(tasks) <= set(known):
        return None
    return f"data.disjoint should name two or more of the tasks {', '.join(known)}, each once; found {list(tasks)}"


@dataclass(frozen=True, slots=True)
class DisjointRequest:
    """Frames by description, with the tasks that are dealt out."""

    request: FrameRequest
    tasks: tuple[str, ...]

    def open(self, *, workers: int = 1, progress: bool = False) -> DisjointFrames:
        """The frames. Raises BuildError as `DisjointFrames` and the request do."""
        return DisjointFrames(self.request.open(workers=workers, progress=progress), self.tasks)


class DisjointFrames:
    """Frames of another source. Of `dealt` tasks, each frame keeps the truth of one; of n frames in a row every one of n tasks
    has one, in a random order. The truths of all other tasks stay.

    Raises:
        BuildError: the source does not label one of the tasks, or there are fewer than two.
    """

    def __init__(self, frames: FrameSource, dealt: Sequence[str]) -> None:
        if (problem := cannot_be_dealt(dealt, frames.tasks)) is not None:
            raise BuildError(problem)
        self._frames, self._dealt = frames, tuple(dealt)

    @property
    def tasks(self) -> Specs:
        """What frames may have truths of."""
        return self._frames.tasks

    @property
    def truth_notes(self) -> dict[str, TruthNote]:
        """Of the source."""
        return dict(truth_notes(self._frames))

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        number = range(len(self))[index]
        frame, hidden = self._frames[number], self._hidden(number)
        return replace(frame, truths={task: truth for task, truth in frame.truths.items() if task not in hidden})

    def known(self, index: int) -> frozenset[str]:
        """The tasks that frame `index` may have truths of."""
        known = self._frames.known(index) if hasattr(self._frames, "known") else self._frames.tasks
        return frozenset(known) - self._hidden(index)

    def _hidden(self, index: int) -> frozenset[str]:
        block, place = divmod(index, len(self._dealt))
        order = np.random.default_rng([_DEAL, block]).permutation(len(self._dealt))
        return frozenset(self._dealt) - {self._dealt[order[place]]}
