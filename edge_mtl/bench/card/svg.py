"""A few shapes of SVG as text. Colours are CSS classes, so that a page decides on light and dark. Knows no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

__all__ = ["Image", "linear", "logarithmic", "nice_ticks"]

Scale = Callable[[float], float]


class Image:
    """A drawing of fixed width and given height, in user units that are pixels at full width.

    Shapes take a CSS class; numbers are rounded to a tenth of a unit.
    """

    def __init__(self, width: float, height: float, *, title: str) -> None:
        self.width, self.height = width, height
        self._title = title
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{escape(kind)}"/>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, *, tip: str = "") -> None:
        """A filled rectangle, with a text that shows when the mouse is over it."""
        if width <= 0:
            return
        shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" class="{escape(kind)}"'
        self._parts.append(shape + (f"><title>{escape(tip)}</title></rect>" if tip else "/>"))

    def dot(self, x: float, y: float, radius: float, kind: str, *, tip: str = "") -> None:
        """A filled circle."""
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{escape(kind)}"'
        self._parts.append(shape + (f"><title>{escape(tip)}</title></circle>" if tip else "/>"))

    def text(self, x: float, y: float, content: str, kind: str = "label", *, anchor: str = "start") -> None:
        """A line of text; `anchor` is start, middle or end."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{escape(kind)}" text-anchor="{anchor}">{escape(content)}</text>'
        )

    def render(self, *, style: str = "") -> str:
        """The whole element; with `style`, CSS, it can stand alone as a file."""
        inside = f"<style>{style}</style>" if style else ""
        return (
            f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" role="img" aria-label="{escape(self._title)}" '
            f'xmlns="http://www.w3.org/2000/svg"><title>{escape(self._title)}</title>{inside}{"".join(self._parts)}</svg>'
        )


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Maps low..high to start..end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Maps low..high to start..end by logarithms; both must be positive."""
    span = math.log(high / low) or 1.0
    return lambda value: start + math.log(max(value, 1e-12) / low) / span * (end - start)


def nice_ticks(low: float, high: float, *, log: bool = False, count: int = 6) -> Sequence[float]:
    """Round numbers between `low` and `high`: 1, 2 and 5 times powers of ten."""
    if log and low > 0:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [base * 10.0**power for power in powers for base in (1, 2, 5) if low <= base * 10.0**power <= high]
        return found if len(found) >= 2 else nice_ticks(low, high)
    span = high - low
    if span <= 0:
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(base * power for base in (1, 2, 5, 10) if base * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
