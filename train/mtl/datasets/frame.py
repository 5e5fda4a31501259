"""A labelled frame, a source of them, and a batch. Knows nothing about files, rooms or networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edge_mtl.tasks import Specs
from mtl.geometry import Intrinsics

if TYPE_CHECKING:
    from torch import Tensor  # reading and converting data sets needs no torch

__all__ = ["Batch", "Frame", "FrameSource", "TruthNote", "described_truths", "listed_classes", "truth_notes"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image and what is true of it, in the camera it was taken with.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        truths: by task, in the form that the task's head describes (`mtl.tasks`); a frame has those that are known of it.
            Labels are (H, W) uint8, 255 void; depth is (H, W) float32 metres along z, 0 unknown; normals are (H, W, 3)
            float32 unit vectors in the camera frame, 0 unknown; boxes are a `BoxTruth`, the class of a frame is its index.
        intrinsics: fx, fy, cx, cy at this size.
    """

    image: np.ndarray
    truths: Mapping[str, Any]
    intrinsics: Intrinsics

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True)
class TruthNote:
    """How the truth of a task was made, where a reader of figures should know it.

    Attributes:
        made: in words: "8 bits, steps of 39 mm".
        pseudo: computed from another truth or by a network, not measured: figures are marked.
    """

    made: str
    pseudo: bool = False


def truth_notes(frames: FrameSource) -> Mapping[str, TruthNote]:
    """By task; a source that has any says so by an attribute `truth_notes`."""
    notes: Mapping[str, TruthNote] = getattr(frames, "truth_notes", {})
    return notes


def described_truths(frames: FrameSource, tasks: Collection[str]) -> dict[str, dict[str, Any]]:
    """The notes of those of the tasks that have one, as records and JSON have them: "made" and "pseudo"."""
    return {task: asdict(note) for task, note in truth_notes(frames).items() if task in tasks}


def listed_classes(frames: FrameSource, task: str) -> np.ndarray | None:
    """Of a task of the kind "class", the class index of every frame, -1 where none is known; opens no image.

    None where frames have to be opened to tell: sources that need not have a method of this name.
    """
    listed: Callable[[str], np.ndarray | None] | None = getattr(frames, "listed_classes", None)
    return None if listed is None else listed(task)


class FrameSource(Protocol):
    """Frames by number. The same number always gives the same frame."""

    @property
    def tasks(self) -> Specs:
        """What frames may have truths of."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Frame: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step needs; truths are of the canonical camera, or of the frames' own (`BatchPlan.canonical`).

    Attributes:
        image: (B, H, W, 3) uint8 RGB.
        targets: by task, only of those that some frame has truth of: a tensor whose first axis is the frame, or a list with
            one entry a frame. Maps are (B, h, w, ...), where h, w are H, W, or one pixel per cell when `phase` is set.
        phase: which pixel of each stride x stride cell the targets are, or None for all.
        source: of a mixture: the source that all its frames are of; empty where there is only one.
    """

    image: Tensor
    targets: Mapping[str, Any]
    phase: tuple[int, int] | None
    source: str = ""
