"""The card as Markdown. Knows the JSON of a benchmark and layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_mtl.bench.card.facts import columns, conditions, headline, sentences, subject

__all__ = ["to_markdown"]


def to_markdown(report: Mapping[str, Any]) -> str:
    """Table, remarks and conditions."""
    names = " and ".join(dict.fromkeys(item["name"] for item in report["bundles"]))
    lines = [f"# Benchmark of {_plain(names)}", ""]
    lines.append(" · ".join(f"**{_plain(value)}** {_plain(what)}" for value, what in headline(report)))
    lines += ["", f"Measured: {_plain(subject(report))}; every call counts.", ""]
    for heads, rows in columns(report):
        if len(heads) > 1:
            lines += [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
            lines += [*(_line(cells) for cells in rows), ""]
    lines += [*(f"- {_plain(text)}" for text in sentences(report))]
    lines += ["", "| condition | |", "|---|---|", *(_line([what, value]) for what, value in conditions(report))]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text on one line that Markdown takes for neither HTML nor a link or an image: names of bundles come from elsewhere."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("[", "\\[")
