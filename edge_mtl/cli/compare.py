"""`edge-mtl compare`: two benchmarks as ratios of ratios, and whether something became slower."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import JsonOption, QuietOption, ThresholdOption, block
from edge_mtl.cli.terminal import Terminal, table

if TYPE_CHECKING:
    from edge_mtl.bench.compare import Comparison
    from edge_mtl.bench.statistics import Interval

__all__ = ["compare", "show"]


@app.command(
    short_help="Compare two benchmarks as ratios of ratios.",
    epilog=block(
        "Examples:",
        "edge-mtl compare before.json after.json",
        "edge-mtl compare benchmarks/results/card.json card.json --threshold 0.1",
    ),
)
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="JSON of a benchmark.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="JSON of another.")],
    threshold: ThresholdOption = 0.05,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare two benchmarks, row by row, each against the reference that was measured with it.

    The exit code is 15 where a row became slower by more than the threshold and noise does not explain it, or is gone.
    Runs that measured something else, other frames or another number at once, are refused.
    """
    from edge_mtl.bench import compare as benchmarks

    terminal = Terminal(json_output=json, quiet=quiet)
    found = benchmarks.compare(benchmarks.read(before), benchmarks.read(after), threshold=threshold)
    if terminal.json_output:
        terminal.record(found.to_dict())
    else:
        show(terminal, found)
    benchmarks.judge(found)


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
