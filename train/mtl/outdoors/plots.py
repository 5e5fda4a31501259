"""Plots of the outdoors study as SVG text: cells as heat maps, values over severities and focal lengths, reliability.

Knows numbers to draw; draws no conclusions. Figures and colours are those of `mtl.study.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl.study.plots import COLOURS, INK, new_figure, svg_text

__all__ = ["HeatPanel", "Line", "heat_maps", "lines", "reliability"]

Array = np.ndarray
_GOOD, _BAD = np.array([0x2F, 0x7F, 0x6B]) / 255, np.array([0xF3, 0xE3, 0xC8]) / 255
_DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class HeatPanel:
    """One map: `values` by row and column, as written; `best` and `worst` are the ends of the colours."""

    title: str
    values: Array
    best: float
    worst: float
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Line:
    """A line over numbers, with an interval where `low` and `high` are there."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def heat_maps(panels: Sequence[HeatPanel], *, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Cells with their values, the darker the better."""
    figure, axes = new_figure(len(panels), width=0.9 + 2.1 * len(panels), height=0.9 + 0.42 * len(rows))
    for number, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        span = panel.best - panel.worst
        share = np.clip((panel.values - panel.worst) / span, 0, 1) if span else np.ones_like(panel.values)
        axis.imshow(_BAD + (_GOOD - _BAD) * np.nan_to_num(share)[..., None], aspect="auto")
        for row, column in np.ndindex(panel.values.shape):
            dark = share[row, column] > 0.55
            text = f"{panel.values[row, column]:.{panel.digits}f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color="#ffffff" if dark else "#1f2328")
        axis.set_title(panel.title, fontsize=9)
        axis.set_xticks(range(len(columns)), columns, fontsize=7)
        axis.set_yticks(range(len(rows)), rows if number == 0 else [""] * len(rows), fontsize=8)
        axis.tick_params(length=0)
        axis.grid(visible=False)
        for side in axis.spines.values():
            side.set_visible(False)
    return svg_text(figure)


def lines(
    panels: Mapping[str, Mapping[str, Line]], *, x_label: str, shaded: tuple[float, float] | None = None, whole: bool = False
) -> str:
    """Values over numbers, one panel for each heading; a name has one colour in all of them.

    Args:
        shaded: a range of x that is marked.
        whole: whether x are whole numbers, each of which gets a tick.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    figure, axes = new_figure(len(panels), width=max(4.2, 2.9 * len(panels)), height=3.1)
    drawn: dict[str, Any] = {}
    for axis, (heading, every) in zip(axes, panels.items(), strict=True):
        axis.set_title(heading, fontsize=9)
        axis.set_xlabel(x_label)
        if shaded is not None:
            axis.axvspan(*shaded, color=INK, alpha=0.08, linewidth=0)
        for name, line in every.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            (drawn[name],) = axis.plot(line.x, line.y, color=colour, marker="o", markersize=3, linewidth=1.4)
            if line.low and line.high:
                axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
        if whole:
            axis.set_xticks(sorted({int(x) for line in every.values() for x in line.x}))
    _legend(figure, drawn)
    return svg_text(figure)


def reliability(panels: Mapping[str, Mapping[str, tuple[Array, Array]]]) -> str:
    """Share of right pixels over confidence, one panel for each task; on the diagonal a confidence is what it says."""
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    figure, axes = new_figure(len(panels), width=max(4.2, 3.0 * len(panels)), height=3.3, share_y=True)
    drawn: dict[str, Any] = {}
    for axis, (task, every) in zip(axes, panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        axis.set_title(task, fontsize=9)
        axis.set_xlabel("confidence")
        for name, (confidence, right) in every.items():
            known = np.isfinite(confidence) & np.isfinite(right)
            number = names.index(name)
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": _DASHES[number % len(_DASHES)]}
            (drawn[name],) = axis.plot(confidence[known], right[known], marker="o", markersize=3, linewidth=1.3, **style)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("share that is right")
    _legend(figure, drawn)
    return svg_text(figure)


def _legend(figure: Any, drawn: Mapping[str, Any]) -> None:
    columns = min(4, len(drawn))
    place = {"loc": "outside lower center", "ncols": columns}
    figure.legend(drawn.values(), drawn.keys(), frameon=False, fontsize=8, labelcolor=INK, **place)
