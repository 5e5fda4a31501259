"""What `accuracy_time.py` measured, as a table, in words where a row is beaten, and as a figure. Measures nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from mtl.study.pareto import Point, front
from mtl.study.plots import Tradeoff, tradeoffs

__all__ = ["MEASURES", "Measure", "beaten", "figure", "markdown", "panel"]

Row = Mapping[str, Any]
"""One engine or network: its `name`, `network` and `engine`, a row of latencies, and each measure, None where it has none."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of accuracy: its key in evaluations, and what it is called; both are shown in percent."""

    key: str
    title: str
    lower_is_better: bool = False

    def value(self, row: Row) -> float | None:
        """In percent; None where the row does not have it."""
        found = row.get(self.key)
        return None if found is None else 100.0 * float(found)


MEASURES = (Measure("miou", "mIoU"), Measure("depth_rel", "relative depth error", lower_is_better=True))


def beaten(row: Row, rows: Sequence[Row], measure: Measure) -> Row | None:
    """The row that is at least as good and at least as fast as `row`, and better in one of them; the best of several.

    Medians are compared as they are: whether a small difference is one, the intervals in the table say.
    """
    own = measure.value(row)
    if own is None:
        return None
    sign = -1.0 if measure.lower_is_better else 1.0

    def better(other: Row) -> bool:
        value = measure.value(other)
        if value is None or sign * value < sign * own or other["median_ms"] > row["median_ms"]:
            return False
        return value != own or other["median_ms"] < row["median_ms"]

    found = [other for other in rows if better(other)]
    return min(found, key=lambda other: (-sign * (measure.value(other) or 0.0), other["median_ms"])) if found else None


def panel(rows: Sequence[Row], measure: Measure) -> Tradeoff:
    """The rows that have a measure, against their medians; `best` are those that nothing beats."""
    sign = -1.0 if measure.lower_is_better else 1.0
    points = {
        row["name"]: Point(row["name"], row["median_ms"], value, None, True)
        for row in rows
        if (value := measure.value(row)) is not None
    }
    best = front([replace(one, gain=sign * one.gain) for one in points.values()])
    label = f"{measure.title}, %"
    return Tradeoff(label, tuple(points.values()), tuple(points[one.name] for one in best), measure.lower_is_better)


def figure(content: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """One table as SVG: a colour for each network, a marker for each engine, those that nothing beats filled and joined."""
    rows = table["rows"]
    groups = {row["name"]: (row["network"], row["engine"]) for row in rows}
    panels = [panel(rows, measure) for measure in MEASURES]
    shown = [one for one in panels if one.points]
    return tradeoffs(shown, x_label=f"ms a frame, {_threads(table)}, {content['device']['cpu_model']}", groups=groups)


def markdown(content: Mapping[str, Any], figures: Mapping[int, str]) -> str:
    """The page. `figures`: file names by number of threads."""
    (height, width), load = content["frame"], content["load"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [
        "# Accuracy against time",
        "",
        f"{content['date']}, commit {content['commit']}, {content['device']['description']}. Accuracy: {content['frames']} "
        f"test frames of {content['data']}. Time: a whole frame of {height}x{width}, image to maps, {content['rounds']} rounds "
        f"with all rows of a table interleaved, batch 1; load {load['before']} before, {load['after']} after. {versions}.",
    ]
    for table in content["tables"]:
        lines += ["", f"## {_threads(table).capitalize()}", ""]
        if table["disturbed"]:
            lines += [f"**This table shows nothing: {table['disturbed']}.**", ""]
        if name := figures.get(table["threads"]):
            lines += [f"![Accuracy against milliseconds, {_threads(table)}]({name})", ""]
        lines += _table(content, table)
    lines += ["", *_networks(content["networks"]), "", f"`{content['command']}`", ""]
    return "\n".join(lines)


def _table(content: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    titles = " | ".join(f"{one.title}, %" for one in MEASURES)
    lines = [
        f"| network and engine | input | median ms | p90 ms | as fast as {table['baseline']} (95 %) | {titles} | beaten by |",
        "|---|---|---|---|---|" + "---|" * (len(MEASURES) + 1),
    ]
    rows = table["rows"]
    for row in sorted(rows, key=lambda row: row["median_ms"]):
        height, width = next(one["size"] for one in content["networks"] if one["name"] == row["network"])
        low, high = row["ratio_sure"]
        values = " | ".join("-" if (value := one.value(row)) is None else f"{value:.2f}" for one in MEASURES)
        lines.append(
            f"| {row['name']} | {height}x{width} | {row['median_ms']:.1f} | {row['p90_ms']:.1f} "
            f"| {row['ratio']:.2f} ({low:.2f} to {high:.2f}) | {values} | {_sentence(row, rows)} |"
        )
    return lines


def _sentence(row: Row, rows: Sequence[Row]) -> str:
    """Which rows beat this one, in words."""
    found = []
    for measure in MEASURES:
        if (other := beaten(row, rows, measure)) is not None:
            found.append(f"{measure.title}: {other['name']}, {measure.value(other):.2f} % in {other['median_ms']:.1f} ms")
    return "; ".join(found) or "none"


def _networks(networks: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| network | what it is | accuracy from |", "|---|---|---|"]
    return [*lines, *(f"| {one['name']} | {one['about']} | {one['accuracy_from']} |" for one in networks)]


def _threads(table: Mapping[str, Any]) -> str:
    return "one thread" if table["threads"] == 1 else f"{table['threads']} threads"
