"""The figures of a kind: what is measured, how it is shown, and what may be lost in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["BudgetItem", "Measure", "Metric"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a kind: how good answers are, or how far two answers agree.

    Attributes:
        name: key in reports, unique among all kinds: "miou", "depth_rel", "argmax_agreement".
        title: short header of a column, with the unit: "mIoU %".
        label: a few words for cards and plots: "Classes, mIoU".
        higher_is_better: which way is better.
        scale: shown values are multiplied by it.
        digits: shown after the point.
        unit: follows a shown value: "°", " %".
        headline: whether tables show it; the others are in JSON only.
    """

    name: str
    title: str
    label: str
    higher_is_better: bool
    scale: float = 1.0
    digits: int = 3
    unit: str = ""
    headline: bool = False

    def loss(self, before: float, after: float) -> float:
        """How much worse `after` is than `before`, in the measure's own unit; below 0 it is better."""
        return before - after if self.higher_is_better else after - before

    def show(self, value: float) -> str:
        """For tables."""
        return f"{value * self.scale:.{self.digits}f}{self.unit}"


@dataclass(frozen=True, slots=True)
class BudgetItem:
    """What a graph may lose in one measure against FP32.

    Attributes:
        name: as `--max-drop` calls it: "miou" in `miou=0.01` or `segmentation.miou=0.01`.
        measure: name of the measure it limits.
        labelled: the measure compares with truth; else with FP32's own answers, which needs no labels.
        default, most: the limit where none is given, and the largest that can be given.
        text: what happened, before the figure: "mIoU fell by".
        unit: "points" (hundredths of a share) or "°".
    """

    name: str
    measure: str
    labelled: bool
    default: float
    most: float
    text: str
    unit: Literal["points", "°"] = "points"

    def describe(self, found: float, allowed: float) -> str:
        """For messages: what was found and what is allowed."""
        if self.unit == "°":
            return f"{self.text} {found:.2f}°, at most {allowed:g}° allowed"
        return f"{self.text} {100 * found:.2f} points, at most {100 * allowed:g} allowed"


class Metric(Protocol):
    """Compares results with truth, over many frames.

    `update` takes a result and the truth of the same frame. `compute` gives measures by name, NaN where nothing counted.
    `statistics` is what one frame (a metric updated once) leaves for `Kind.resample`. `details` is what reports show besides.
    """

    def update(self, result: Any, truth: Any) -> None: ...
    def compute(self) -> dict[str, float]: ...
    def statistics(self) -> Any: ...
    def details(self) -> dict[str, Any]: ...
