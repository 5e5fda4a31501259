"""Check every file of a data set, and look at it: `python train/validate_dataset.py data/own --sheet sheet.png`.

A folder with dataset.toml (docs/guides/own-data.md): images and labels that cannot be read or do not fit, indices that are no
class, depth and normals that are not plausible, cameras, splits; how often each class occurs. --sheet draws frames with their
labels beside them. A folder of NYUv2: counts, shapes, dtypes, ranges, the axes of the normals, missing and unreadable files.
A folder of rendered rooms: the same, boxes and kinds of room too, some of them compared with what their seeds give.
The exit code is 0 when nothing is wrong, 1 when something is, 9 when there is no data set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_mtl import opencv
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.packages import FAILURES, package_error

if TYPE_CHECKING:
    from mtl.datasets.report import Check, Report

_PROBLEMS_SHOWN = 8
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}
_OWN = "dataset.toml"


def main(arguments: list[str] | None = None) -> int:
    """Parse, check, print; the exit code."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument(
        "folder", type=Path, help="with dataset.toml; or NYUv2's: train/ and val/ of image/, label/, depth/, normal/; or rooms"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw frames with their labels, to be looked at")
    parser.add_argument("--frames", type=int, default=12, help="frames on the sheet (default: %(default)s)")
    asked = parser.parse_args(arguments)
    if asked.frames < 1:
        parser.error(f"--frames should be 1 or more, found {asked.frames}")
    try:
        opencv.require()
        report = _inspect(asked.folder)
        if asked.sheet is not None:
            _write_sheet(asked.folder, asked.sheet, asked.frames)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"validate_dataset: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if asked.json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        show(report, Console(width=None if sys.stdout.isatty() else 140))
        if asked.sheet is not None:
            print(f"sheet: {asked.sheet}")
    return 0 if report.fine else 1


def show(report: Report, console: Console) -> None:
    """The report as a table, how often classes occur, and the first problems of each check."""
    table = Table("check", "", "found", title=escape(report.folder))
    for check in report.checks:
        colour = _COLOURS[check.status]
        found = escape(check.found + (f"\n{check.note}" if check.note else ""))
        table.add_row(check.name, f"[{colour}]{check.status}[/]", found)
    console.print(table)
    for check in report.checks:
        if check.details.get("classes"):
            console.print(_classes(check))
    for check in report.checks:
        for problem in check.problems[:_PROBLEMS_SHOWN]:
            console.print(f"{check.name}: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)
        if len(check.problems) > _PROBLEMS_SHOWN:
            console.print(f"{check.name}: and {len(check.problems) - _PROBLEMS_SHOWN} more (--json lists all)", style="red")


def _classes(check: Check) -> Table:
    """Of every class, its share (of the labelled pixels, or `details["of"]`) and the frames that it is in, by split."""
    classes = check.details["classes"]
    splits = list(next(iter(classes.values())))
    of = check.details.get("of", "labelled pixels")
    table = Table("class", title=f"{check.name}: share of the {of}, and frames")
    for split in splits:
        table.add_column(split, justify="right")
    for name, by_split in classes.items():
        cells = (f"{by_split[split]['share']:.2%}  {by_split[split]['frames']:5d}" for split in splits)
        table.add_row(escape(name), *cells)
    return table


def _inspect(folder: Path) -> Report:
    inspect = _inspector(folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("files")

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        return inspect(folder, progress=advance)


def _inspector(folder: Path) -> Callable[..., Report]:
    """What checks the layout that the folder has. Raises BuildError where it has none that is known."""
    from mtl.datasets.folder.check import inspect as of_ones_own
    from mtl.datasets.nyuv2.check import inspect as of_nyuv2
    from mtl.datasets.nyuv2.layout import PARTS
    from mtl.datasets.rooms.check import inspect as of_rooms
    from mtl.datasets.rooms.dataset import holds_rooms

    if (folder / _OWN).exists():
        return of_ones_own
    if any((folder / part).exists() for part in PARTS):
        return of_nyuv2
    if holds_rooms(folder):
        return of_rooms
    raise BuildError(
        f"{folder} should have {_OWN} (images of your own: docs/guides/own-data.md), {' and '.join(PARTS)} (NYUv2: "
        f"python train/prepare_nyuv2.py makes them) or rooms (python train/make_rooms.py makes them); found "
        f"{'none of them' if folder.is_dir() else 'no such folder'}"
    )


def _write_sheet(folder: Path, path: Path, frames: int) -> None:
    if not (folder / _OWN).exists():
        raise BuildError(f"--sheet draws a folder that has {_OWN}; {folder} has none (docs/guides/own-data.md)")
    from mtl.datasets.folder.contact_sheet import contact_sheet_png

    try:
        write_atomic(path, contact_sheet_png(folder, frames=frames))
    except OSError as exc:
        raise BuildError(f"{path} could not be written ({exc.strerror or exc}). Choose another --sheet FILE.png") from exc


if __name__ == "__main__":
    sys.exit(main())
