"""Plots of a study as SVG text that follows the reader's light or dark theme. Knows numbers to draw; draws no conclusions.

Ink is drawn in one marked colour, which becomes `currentColor`: the colour of the text around the image.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.study.cosines import PairCosines, smoothed
from mtl.study.pareto import Point
from mtl.study.significance import Difference

__all__ = [
    "COLOURS",
    "INK",
    "Curve",
    "Tradeoff",
    "bars",
    "cosine_lines",
    "curves",
    "new_figure",
    "pareto",
    "svg_text",
    "tradeoffs",
]

INK = "#123457"
"""Stands for the colour of text until the SVG is finished; no other line uses it."""

COLOURS = ("#4c8eda", "#e08a2c", "#3fa66b", "#c0597e", "#8a70d6", "#9c8b3c", "#2fa3a8", "#b0623f")
_MARKERS = "osD^vP*X"
_BETTER, _WORSE, _NEITHER = "#3fa66b", "#d0605e", "#8f959e"
_STYLE = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d6dbe1}}</style>"
_SMOOTHING_SHARE = 0.1
_FAR_APART = 8.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: a metric over steps, one list for each seed."""

    name: str
    seeds: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """One panel of `tradeoffs`.

    Attributes:
        label: of what the points' gain is here, in its own units.
        points: all of them.
        best: those that nothing beats, the cheapest first.
        lower_is_better: whether a small gain is a good one; the axis then points down.
    """

    label: str
    points: tuple[Point, ...]
    best: tuple[Point, ...]
    lower_is_better: bool = False


def curves(panels: Mapping[str, Sequence[Curve]]) -> str:
    """Learning curves, one panel for each metric; a row has one colour, its seeds are lines of it."""
    figure, axes = new_figure(len(panels), width=3.4 * len(panels), height=2.9)
    names = list(dict.fromkeys(curve.name for lines in panels.values() for curve in lines))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    drawn: dict[str, Any] = {}
    for axis, (heading, lines) in zip(axes, panels.items(), strict=True):
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel("step")
        for curve in lines:
            for steps, values in curve.seeds:
                (line,) = axis.plot(steps, values, color=colours[curve.name], marker="o", markersize=3, linewidth=1.4)
                drawn[curve.name] = line
    columns = min(4, len(drawn))
    figure.legend(
        drawn.values(), drawn.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8, labelcolor=INK
    )
    return svg_text(figure)


def bars(rows: Mapping[str, Difference], *, label: str) -> str:
    """Changes in percent as horizontal bars with the margin of seeds; coloured only where a difference is shown."""
    figure, (axis,) = new_figure(1, width=7.2, height=0.9 + 0.3 * len(rows))
    colours = {"better": _BETTER, "worse": _WORSE}
    for position, one in enumerate(rows.values()):
        axis.barh(position, one.percent, color=colours.get(one.verdict, _NEITHER), height=0.62)
        if one.margin is not None:
            axis.errorbar(one.percent, position, xerr=one.margin, color=INK, linewidth=1, capsize=3)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.invert_yaxis()
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_xlabel(label)
    axis.grid(axis="y", visible=False)
    return svg_text(figure)


def pareto(points: Sequence[Point], best: Sequence[Point], *, x_label: str, y_label: str) -> str:
    """Gain against cost; the rows that nothing beats are filled and joined."""
    panel = Tradeoff(y_label, tuple(points), tuple(best))
    return tradeoffs([panel], x_label=x_label, groups={one.name: (one.name, one.name) for one in points})


def tradeoffs(panels: Sequence[Tradeoff], *, x_label: str, groups: Mapping[str, tuple[str, str]]) -> str:
    """Several values against one cost, side by side, better always being up and left; costs far apart are on a log scale.

    Args:
        groups: by name of a point, what gives it its colour and what gives it its marker.
    """
    figure, axes = new_figure(len(panels), width=4.0 + 3.6 * len(panels), height=3.8)
    colours, markers = (list(dict.fromkeys(one[at] for one in groups.values())) for at in (0, 1))
    styles = {name: (colours.index(colour), markers.index(marker)) for name, (colour, marker) in groups.items()}
    for axis, panel in zip(axes, panels, strict=True):
        _dots(axis, panel, styles)
        axis.set_xlabel(x_label)
        costs = [one.cost for one in panel.points]
        if costs and max(costs) > _FAR_APART * min(costs):
            _log_scale(axis)
    drawn = {text: line for axis in axes for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    legend = figure.legend(drawn.values(), drawn.keys(), loc="outside right upper", frameon=False, fontsize=8, labelcolor=INK)
    for handle in legend.legend_handles if len(panels) > 1 else ():
        handle.set_markerfacecolor(handle.get_markeredgecolor())  # what is best in one panel may not be in another
    return svg_text(figure)


def _log_scale(axis: Any) -> None:
    """Make the costs' axis logarithmic, with plain numbers at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _dots(axis: Any, panel: Tradeoff, styles: Mapping[str, tuple[int, int]]) -> None:
    """Points with their margins; the best are filled and joined. `styles`: numbers of colour and marker by name."""
    for point in panel.points:
        colour, marker = (own[number % len(own)] for own, number in zip((COLOURS, _MARKERS), styles[point.name], strict=True))
        if point.margin is not None:
            axis.errorbar(point.cost, point.gain, yerr=point.margin, color=colour, linewidth=0.8, capsize=2, zorder=2)
        fill = colour if point in panel.best else "none"
        dot = {"marker": marker, "markersize": 8, "markerfacecolor": fill, "markeredgecolor": colour}
        axis.plot([point.cost], [point.gain], linestyle="none", zorder=3, label=point.name, **dot)
    if len(panel.best) > 1:
        costs, gains = [one.cost for one in panel.best], [one.gain for one in panel.best]
        axis.plot(costs, gains, color=INK, linewidth=1, linestyle="--", zorder=1)
    axis.set_ylabel(panel.label)
    axis.margins(0.1, 0.1)
    if panel.lower_is_better:
        axis.invert_yaxis()


def cosine_lines(pairs: Sequence[PairCosines]) -> str:
    """Cosines between tasks' gradients over training: faint as sampled, bold smoothed; below zero they pull apart."""
    figure, axes = new_figure(len(pairs), width=3.4 * len(pairs), height=2.7, share_y=True)
    for axis, pair, colour in zip(axes, pairs, COLOURS, strict=False):
        for steps, values in pair.runs:
            window = max(3, round(len(values) * _SMOOTHING_SHARE))
            axis.plot(steps, values, color=colour, linewidth=0.6, alpha=0.35)
            axis.plot(steps, smoothed(values, window=window), color=colour, linewidth=1.8)
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set_title(f"{' + '.join(pair.pair)}\nnegative at {pair.negative_share:.0%} of steps", fontsize=9)
        axis.set_xlabel("step")
    axes[0].set_ylabel("cosine of gradients")
    return svg_text(figure)


def new_figure(panels: int, *, width: float, height: float, share_y: bool = False) -> tuple[Any, list[Any]]:
    """A figure without a background and its axes, left to right; sizes in inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with rc_context({**ink, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        axes = list(figure.subplots(1, panels, squeeze=False, sharey=share_y)[0])
    for axis in axes:
        axis.set_facecolor("none")
        axis.grid(color=INK, alpha=0.15, linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def svg_text(figure: Any) -> str:
    """The figure as one <svg> element with its words as text, without a prolog; the same numbers give the same text."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "edge_mtl", "font.family": "sans-serif"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", text)
    text = text.replace(INK, "currentColor")
    return text.replace(">", f">{_STYLE}", 1)
