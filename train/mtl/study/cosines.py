"""Do the tasks' gradients conflict? Pairwise cosines over training, smoothed, and how often they are negative.

Knows the "cosine" records of runs: {"step": n, "segmentation+depth": c, ...}. A cosine below zero means that a step which
helps one task hurts the other, to first order, in the features they share: negative transfer (Yu et al. 2020, PCGrad,
arXiv:2001.06782, section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from mtl.study.records import Record, RunRecords
from mtl.study.results import RowResult

__all__ = ["PairCosines", "cosines_of", "pair_cosines", "smoothed"]


@dataclass(frozen=True, slots=True)
class PairCosines:
    """Cosines between the gradients of two tasks on the shared features, in order of steps; several seeds one after another.

    Attributes:
        runs: per seed the steps and the cosines there, -1..1.
    """

    pair: tuple[str, str]
    runs: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]

    @property
    def values(self) -> tuple[float, ...]:
        """All cosines of all seeds."""
        return tuple(value for _, values in self.runs for value in values)

    @property
    def mean(self) -> float:
        """Over training and seeds."""
        return fmean(self.values)

    @property
    def negative_share(self) -> float:
        """Share of the sampled steps at which the two tasks pull apart."""
        return sum(value < 0 for value in self.values) / len(self.values)

    def negative_share_of_half(self, half: int) -> float | None:
        """The same of the first (0) or second (1) half of training; None when nothing was sampled there."""
        chosen = []
        for steps, values in self.runs:
            middle = (steps[0] + steps[-1]) / 2
            chosen += [value for step, value in zip(steps, values, strict=True) if (step > middle) == bool(half)]
        return sum(value < 0 for value in chosen) / len(chosen) if chosen else None


def pair_cosines(row: RowResult) -> list[PairCosines]:
    """Every pair that the row's runs sampled, in the order of the records."""
    return cosines_of([run.records for run in row.runs])


def cosines_of(runs: Iterable[RunRecords]) -> list[PairCosines]:
    """Every pair that any of the runs sampled, in the order of the records."""
    found: dict[tuple[str, str], list[tuple[tuple[int, ...], tuple[float, ...]]]] = {}
    for run in runs:
        samples: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for record in run.cosines:
            for pair, value in _pairs(record):
                samples.setdefault(pair, []).append((int(record["step"]), value))
        for pair, points in samples.items():
            found.setdefault(pair, []).append((tuple(step for step, _ in points), tuple(value for _, value in points)))
    return [PairCosines(pair, tuple(runs)) for pair, runs in found.items()]


def smoothed(values: Sequence[float], *, window: int) -> list[float]:
    """Centred moving mean; at the ends over what there is."""
    half = max(0, window // 2)
    return [fmean(values[max(0, index - half) : index + half + 1]) for index in range(len(values))]


def _pairs(record: Record) -> list[tuple[tuple[str, str], float]]:
    result = []
    for key, value in record.items():
        first, plus, second = key.partition("+")
        if plus and isinstance(value, (int, float)) and value == value:
            result.append(((first, second), float(value)))
    return result
