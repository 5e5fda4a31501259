"""How good classes of whole frames are: shares of frames whose true class is the first answer, or among the first five."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge_mtl.tasks.frame_class import ClassScores

__all__ = ["ClassMetric", "ranking", "shares_of_draws"]

Array = np.ndarray
Counts = tuple[int, int, int]
"""Frames: whose class was first, whose class was among the first five, all."""

FEW = 5
"""Classes that count as found in top5."""
_KAPPA = 0.05
"""Agreement beyond chance that is none: 0 is chance, 1 is perfect."""
_FEWEST = 50
"""Frames, of which that can be said."""


class ClassMetric:
    """Frames that are right, and how often each class is true and answered.

    Args:
        classes: names by index.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._hits = np.zeros(2, np.int64)
        self._counts = np.zeros((len(self.classes), len(self.classes) + 1), np.int64)

    def update(self, result: ClassScores, truth: int) -> None:
        """Add a result and the index of its true class. A result without a class is wrong."""
        best = ranking(result.probabilities)
        self._hits += [int(truth in best[:1]), int(truth in best[:FEW])]
        self._counts[truth, best[0] if len(best) else len(self.classes)] += 1

    def compute(self) -> dict[str, float]:
        """top1 and top5, 0..1; top5 is NaN where there are no more than five classes, of which any answer would be right."""
        first, few = (float(value) for value in shares(np.array(self.statistics(), np.float64), len(self.classes)))
        return {"top1": first, "top5": few}

    def statistics(self) -> Counts:
        """Frames whose class was first, among the first five, and all."""
        first, few = (int(value) for value in self._hits)
        return first, few, int(self._counts.sum())

    def details(self) -> dict[str, Any]:
        """class_recall by name: the share of the frames of each class that occurs for which it was the first answer."""
        total = self._counts.sum(axis=1)
        found = {
            name: float(self._counts[index, index] / total[index]) for index, name in enumerate(self.classes) if total[index]
        }
        return {"class_recall": found} if found else {}

    def most_frequent(self) -> tuple[str, float]:
        """The class that most frames have, by name, and their share; the lowest of several."""
        total = self._counts.sum(axis=1)
        return self.classes[int(total.argmax())], float(total.max() / max(total.sum(), 1))

    def near_chance(self) -> bool:
        """Whether classes agree with the truth no more than by chance, and less than the most frequent one for all would.

        Nothing can be said of few frames, nor where all are of one class.

        Source: Cohen 1960, "A Coefficient of Agreement for Nominal Scales", as for labels.
        """
        total = int(self._counts.sum())
        if total < _FEWEST or np.count_nonzero(self._counts.sum(axis=1)) < 2:
            return False
        true, guessed = self._counts.sum(axis=1) / total, self._counts[:, : len(self.classes)].sum(axis=0) / total
        right, by_chance = float(np.trace(self._counts[:, : len(self.classes)])) / total, float(true @ guessed)
        return right < float(true.max()) and right - by_chance <= _KAPPA * (1.0 - by_chance)


def ranking(probabilities: Array) -> Array:
    """Indices of classes, most probable first, the lowest of equal ones first; empty where they are not known."""
    if not np.isfinite(probabilities).all():
        return np.zeros(0, np.int64)
    return np.argsort(-probabilities, kind="stable")


def shares(counts: Array, classes: int) -> Array:
    """(..., 3) as `Counts` -> (..., 2): top1 and top5 of that many classes; NaN without frames."""
    total = counts[..., 2:]
    found = np.divide(counts[..., :2], total, out=np.full((*counts.shape[:-1], 2), np.nan), where=total > 0)
    if classes <= FEW:
        found[..., 1] = np.nan
    return found


def shares_of_draws(statistics: Sequence[Counts], weights: Array, classes: int) -> tuple[Array, Array]:
    """(R,) top1 and (R,) top5 of R draws of F frames: `statistics` as `ClassMetric.statistics`, `weights` (R, F)."""
    found = shares(weights @ np.array(statistics, np.float64).reshape(-1, 3), classes)
    return found[:, 0], found[:, 1]
