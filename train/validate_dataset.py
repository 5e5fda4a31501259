"""Check every file of an NYUv2 folder: `python train/validate_dataset.py data/nyuv2`.

Counts, shapes, dtypes, ranges of labels and depth, unit normals, the axes of the normals, NaN, missing and unreadable files.
The exit code is 0 when nothing is wrong, 1 when something is, 9 when there is no data set.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_mtl import opencv
from edge_mtl.errors import EdgeMtlError

if TYPE_CHECKING:
    from mtl.datasets.nyuv2.check import Report

_PROBLEMS_SHOWN = 8
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


def main(arguments: list[str] | None = None) -> int:
    """Parse, check, print; the exit code."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="with train/ and val/, each of image/, label/, depth/, normal/")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    asked = parser.parse_args(arguments)
    try:
        opencv.require()
        report = _inspect(asked.folder)
    except EdgeMtlError as error:
        print(f"validate_dataset: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if asked.json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        show(report, Console(width=None if sys.stdout.isatty() else 140))
    return 0 if report.fine else 1


def show(report: Report, console: Console) -> None:
    """The report as a table, and the first problems of each check."""
    table = Table("check", "", "found", title=report.folder)
    for check in report.checks:
        colour = _COLOURS[check.status]
        table.add_row(check.name, f"[{colour}]{check.status}[/]", check.found + (f"\n{check.note}" if check.note else ""))
    console.print(table)
    for check in report.checks:
        for problem in check.problems[:_PROBLEMS_SHOWN]:
            console.print(f"{check.name}: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)
        if len(check.problems) > _PROBLEMS_SHOWN:
            console.print(f"{check.name}: and {len(check.problems) - _PROBLEMS_SHOWN} more (--json lists all)", style="red")


def _inspect(folder: Path) -> Report:
    from mtl.datasets.nyuv2.check import inspect

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("files")

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        return inspect(folder, progress=advance)


if __name__ == "__main__":
    sys.exit(main())
