"""`edge-mtl compare`: two benchmarks as ratios of ratios, and whether something became slower. Knows what to show."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_mtl.bench.compare import Comparison, compare, read
from edge_mtl.bench.statistics import Interval
from edge_mtl.commands.terminal import Terminal, table
from edge_mtl.errors import RegressionError

__all__ = ["judge", "record", "run", "show"]


def run(terminal: Terminal, before: Path, after: Path, *, threshold: float) -> None:
    """Compare two files.

    Raises:
        BundleError: a file is no benchmark, or the two cannot be compared.
        RegressionError: a row became slower, beyond noise and the threshold, or is not there any more.
    """
    found = compare(read(before), read(after), threshold=threshold)
    if terminal.json_output:
        terminal.record(record(found))
    else:
        show(terminal, found)
    judge(found)


def record(found: Comparison) -> dict[str, Any]:
    """Plain values for JSON."""
    return {**asdict(found), "regressions": list(found.regressions)}


def judge(found: Comparison) -> None:
    """Raises RegressionError where a row became slower or is gone."""
    sentences = []
    if found.slower:
        worst = min((change.change for change in found.slower), key=lambda change: change.value)
        names = ", ".join(change.name for change in found.slower)
        sentences.append(
            f"slower than before against {found.baseline}: {names}; worst {worst.value:.3f}× "
            f"({worst.low:.3f} to {worst.high:.3f}), at least {1 / (1 + found.threshold):.3f}× was expected."
        )
    if found.only_before:
        sentences.append(
            f"not measured any more, which counts as slower: {', '.join(found.only_before)}. "
            "Build what is missing with edge-mtl build-engine, or measure both with the same options."
        )
    if sentences:
        raise RegressionError(" ".join(sentences))


def show(terminal: Terminal, found: Comparison) -> None:
    """A table of the changes, and what limits them."""
    numbers = ("before", "after", "change", "sure")
    result = table(f"times faster than {found.baseline}", "row", *numbers, "judgement", right=numbers)
    for row in found.changes:
        cells = [_ratio(row.before), _ratio(row.after), f"{row.change.value:.3f}×"]
        result.add_row(row.name, *cells, f"{row.change.low:.3f}–{row.change.high:.3f}", row.judgement)
    terminal.show(result)
    terminal.show(
        f"change: after / before, with its 95 % interval. unclear: the interval is wider than the {found.threshold:.0%} "
        "asked about; measure longer."
    )
    for title, names in (("Only in the first", found.only_before), ("Only in the second", found.only_after)):
        if names:
            terminal.show(f"{title}: {', '.join(names)}")
    for remark in found.remarks:
        terminal.show(f"Note: {remark}.")


def _ratio(ratio: Interval) -> str:
    return f"{ratio.value:.2f}× ({ratio.low:.2f}–{ratio.high:.2f})"
