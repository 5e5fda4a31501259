"""The kind "class": one class for the whole frame, such as the kind of scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_mtl.tasks.kind import Result, TaskSpec

__all__ = ["ClassScores", "ClassSpec"]

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class ClassSpec(TaskSpec):
    """A task of one class per frame.

    Attributes:
        classes: names by index.
    """

    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores(Result):
    """What kind of frame it is. A truth is the index alone, an int.

    Attributes:
        probabilities: (C,) float32, by class, their sum is 1.
    """

    spec: ClassSpec
    probabilities: Array

    @property
    def index(self) -> int:
        """Of the most probable class; the lowest of several."""
        return int(self.probabilities.argmax())

    @property
    def name(self) -> str:
        """Of the most probable class."""
        return self.spec.classes[self.index]
