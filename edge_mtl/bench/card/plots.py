"""The plots of the card: latency, gain, stages, accuracy against latency, bars. Knows rows as JSON has them, and layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_mtl.bench.card.svg import Image, linear, logarithmic, nice_ticks
from edge_mtl.bench.card.theme import COLOURS

__all__ = ["accuracy_plot", "bars", "gain_plot", "latency_plot", "stage_plot"]

Row = Mapping[str, Any]

_WIDTH, _LEFT, _RIGHT = 760, 12, 24
_LINE = 46
_MOST_DOTS = 300
_STAGES = ("prepare", "copy_in", "infer", "copy_out", "postprocess")


def latency_plot(rows: Sequence[Row]) -> str:
    """Every frame a dot, the median a bar, p90 and p99 ticks; logarithmic where outliers are far away."""
    low = min(min(row["samples_ms"]) for row in rows)
    high = max(max(row["samples_ms"]) for row in rows)
    log = high / max(low, 1e-9) > 6
    low, high = (low * 0.9, high * 1.1) if log else (0.0, high * 1.03)
    image = Image(_WIDTH, len(rows) * _LINE + 40, title="Latency of every frame")
    scale = (logarithmic if log else linear)(low, high, _LEFT, _WIDTH - _RIGHT)
    _axis(image, scale, nice_ticks(low, high, log=log), "ms" + (", logarithmic" if log else ""))
    for number, row in enumerate(rows):
        top = number * _LINE + 8
        tip = f"p50 {row['p50_ms']:.2f} ms, p90 {row['p90_ms']:.2f}, p99 {row['p99_ms']:.2f}, longest {row['max_ms']:.2f}"
        image.text(_LEFT, top + 12, row["name"])
        image.text(_WIDTH - _RIGHT, top + 12, tip, "faint", anchor="end")
        for place, value in enumerate(_thinned(row["samples_ms"])):
            image.dot(scale(value), top + 20 + (place * 7) % 17, 1.8, f"c{number % COLOURS} soft")
        image.box(scale(row["p50_ms"]) - 1.5, top + 17, 3, 23, f"c{number % COLOURS}", tip=tip)
        for name in ("p90_ms", "p99_ms"):
            image.line(scale(row[name]), top + 18, scale(row[name]), top + 39, "tick")
    return image.render()


def gain_plot(rows: Sequence[Row], baseline: str) -> str:
    """How many times faster than the baseline, with the 95 % interval."""
    values = [(row["name"], row["ratio"], row["ratio_sure"], f"{row['ratio']:.2f}×") for row in rows]
    return _bars(values, f"Times faster than {baseline}", "×", mark=1.0)


def bars(title: str, unit: str, values: Sequence[tuple[str, float | None, str]], *, style: str = "") -> str:
    """One bar per (name, value, text); None is drawn as not available. With `style` the image can stand alone."""
    return _bars([(name, value, None, text) for name, value, text in values], title, unit, style=style)


def stage_plot(rows: Sequence[Row]) -> str:
    """Medians of the stages one after the other."""
    ends = [sum(_stage(row, name) for name in _STAGES) for row in rows]
    high = max([*ends, 1e-6]) * 1.03
    image = Image(_WIDTH, len(rows) * _LINE + 62, title="Where the time of a frame goes")
    scale = linear(0.0, high, _LEFT, _WIDTH - _RIGHT)
    _axis(image, scale, nice_ticks(0.0, high), "ms, medians", bottom=62)
    for number, row in enumerate(rows):
        top, reached = number * _LINE + 8, 0.0
        image.text(_LEFT, top + 12, row["name"])
        parts = [(name, _stage(row, name)) for name in _STAGES if _stage(row, name) > 0]
        image.text(
            _WIDTH - _RIGHT, top + 12, ", ".join(f"{_words(name)} {value:.2f}" for name, value in parts), "faint", anchor="end"
        )
        for name, value in parts:
            tip = f"{_words(name)} {value:.3f} ms"
            image.box(scale(reached), top + 19, scale(reached + value) - scale(reached), 18, f"c{_STAGES.index(name)}", tip=tip)
            reached += value
    x = float(_LEFT)
    for place, name in enumerate(_STAGES):
        if any(_stage(row, name) > 0 for row in rows):
            image.box(x, image.height - 14, 10, 10, f"c{place}")
            image.text(x + 15, image.height - 5, _words(name), "faint")
            x += 34 + 7 * len(name)
    return image.render()


def accuracy_plot(rows: Sequence[Row], metric: str, title: str, *, higher_is_better: bool) -> str:
    """One dot per row: latency to the right, the metric upwards (downwards where lower is better: up is always better)."""
    known = [(number, row) for number, row in enumerate(rows) if metric in row.get("accuracy", {})]
    width, height, left, bottom = 372.0, 250.0, 58.0, 34.0
    image = Image(width, height, title=title)
    values = [row["accuracy"][metric] for _, row in known]
    times = [row["p50_ms"] for _, row in known]
    margin = max((max(values) - min(values)) * 0.25, abs(max(values)) * 0.01, 1e-6)
    low, high = min(values) - margin, max(values) + margin
    ends = (height - bottom, 26.0) if higher_is_better else (26.0, height - bottom)
    vertical, horizontal = linear(low, high, *ends), linear(0.0, max(times) * 1.12, left, width - 12)
    image.text(left, 14, title)
    for tick in nice_ticks(low, high, count=4):
        image.line(left, vertical(tick), width - 12, vertical(tick), "grid")
        image.text(left - 6, vertical(tick) + 4, f"{tick:g}", "faint", anchor="end")
    for tick in nice_ticks(0.0, max(times) * 1.12, count=4):
        image.text(horizontal(tick), height - bottom + 16, f"{tick:g}", "faint", anchor="middle")
    image.text(width - 12, height - 4, "ms, median; up and left is better", "faint", anchor="end")
    for number, row in known:
        value = row["accuracy"][metric]
        tip = f"{row['name']}: {value:.4f} at {row['p50_ms']:.2f} ms"
        image.dot(horizontal(row["p50_ms"]), vertical(value), 6, f"c{number % COLOURS}", tip=tip)
    return image.render()


def _bars(
    values: Sequence[tuple[str, float | None, Sequence[float] | None, str]],
    title: str,
    unit: str,
    *,
    mark: float | None = None,
    style: str = "",
) -> str:
    known = [max(value, *(sure or (value,))) for _, value, sure, _ in values if value is not None]
    high = max([*known, 1e-9]) * (1.03 if mark is None else 1.12)
    image = Image(_WIDTH, len(values) * _LINE + 40, title=title)
    scale = linear(0.0, high, _LEFT, _WIDTH - _RIGHT)
    _axis(image, scale, nice_ticks(0.0, high), unit)
    for number, (name, value, sure, text) in enumerate(values):
        top = number * _LINE + 8
        image.text(_LEFT, top + 12, name)
        image.text(_WIDTH - _RIGHT, top + 12, text, "faint", anchor="end")
        if value is None:
            continue
        image.box(scale(0.0), top + 19, scale(value) - scale(0.0), 18, f"c{number % COLOURS}", tip=f"{name}: {text}")
        if sure is not None:
            middle = top + 28
            image.line(scale(sure[0]), middle, scale(sure[1]), middle, "tick")
            for end in sure:
                image.line(scale(end), middle - 5, scale(end), middle + 5, "tick")
    if mark is not None:
        image.line(scale(mark), 4, scale(mark), len(values) * _LINE + 8, "mark")
    return image.render(style=style)


def _axis(image: Image, scale: Any, ticks: Sequence[float], unit: str, *, bottom: float = 40) -> None:
    base = image.height - bottom + 12
    for tick in ticks:
        image.line(scale(tick), 2, scale(tick), base, "grid")
        image.text(scale(tick), base + 14, f"{tick:g}", "faint", anchor="middle")
    image.text(image.width - 4, base + 26, unit, "faint", anchor="end")


def _thinned(samples: Sequence[float]) -> list[float]:
    """At most so many of the samples, among them the longest."""
    if len(samples) <= _MOST_DOTS:
        return list(samples)
    step = len(samples) / (_MOST_DOTS - 20)
    kept = [samples[int(place * step)] for place in range(_MOST_DOTS - 20)]
    return kept + sorted(samples)[-20:]


def _stage(row: Row, name: str) -> float:
    found = row["stages"].get(name)
    return float(found["p50_ms"]) if found else 0.0


def _words(name: str) -> str:
    return name.replace("_", " ")
