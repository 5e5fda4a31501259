"""Whether a difference between two rows is more than seeds alone make: from the spread of the rows that ran several seeds.

Knows numbers; knows nothing about what they measure. How much a metric varies between seeds is pooled over all rows that
have several, as a share of its value, so that rows with one seed can be judged too. An interval is Student's 95 % one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mtl.study.results import Measured

__all__ = ["Difference", "Noise", "Verdict"]

Verdict = Literal["better", "worse", "none shown", "unknown"]

_STUDENT_97_5 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
"""97.5 % quantiles of Student's t for 1 to 15 degrees of freedom."""

_MANY = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """A change in percent, positive is better, and how far seeds alone might have moved it; None where nobody knows."""

    percent: float
    margin: float | None

    @property
    def verdict(self) -> Verdict:
        """ "none shown" when the margin is at least as large as the difference."""
        if self.margin is None:
            return "unknown"
        if abs(self.percent) <= self.margin:
            return "none shown"
        return "better" if self.percent > 0 else "worse"

    def __str__(self) -> str:
        margin = "seeds unknown" if self.margin is None else f"± {self.margin:.1f}"
        return f"{self.percent:+.1f} % ({margin})"


class Noise:
    """How much metrics vary between seeds, pooled over rows: standard deviation as a share of the value."""

    def __init__(self, rows: Iterable[Mapping[str, Measured]]) -> None:
        squares: dict[str, float] = {}
        self._freedom: dict[str, int] = {}
        for row in rows:
            for name, value in row.items():
                if value.spread is not None and value.mean:
                    squares[name] = squares.get(name, 0.0) + (value.count - 1) * (value.spread / value.mean) ** 2
                    self._freedom[name] = self._freedom.get(name, 0) + value.count - 1
        self._share = {name: math.sqrt(total / self._freedom[name]) for name, total in squares.items()}

    def share(self, name: str) -> float | None:
        """Standard deviation between seeds as a share of the metric; None where no row has several seeds."""
        return self._share.get(name)

    def freedom(self, name: str) -> int:
        """Degrees of freedom behind `share`."""
        return self._freedom.get(name, 0)

    def difference(self, terms: Mapping[str, float], *, seeds: Mapping[str, tuple[int, int]]) -> Difference:
        """The mean of changes, one for each metric named, with the margin that seeds give it.

        The metrics of one run move together in an unknown way, so their margins are added up as if they moved alike: the
        widest that the mean can be.

        Args:
            terms: metric -> change in percent, positive is better.
            seeds: metric -> number of runs behind the value and behind what it is compared with.
        """
        percent = sum(terms.values()) / len(terms)
        margins = []
        for name in terms:
            share = self.share(name)
            if share is None:
                return Difference(percent, None)
            freedom = self.freedom(name)
            factor = _STUDENT_97_5[freedom - 1] if freedom <= len(_STUDENT_97_5) else _MANY
            ours, theirs = seeds[name]
            margins.append(100.0 * factor * share * math.sqrt(1.0 / ours + 1.0 / theirs))
        return Difference(percent, sum(margins) / len(margins))
