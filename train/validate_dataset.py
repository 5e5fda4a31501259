"""Check every file of a data set, and look at it: `python train/validate_dataset.py data/own --sheet sheet.png`.

A folder with dataset.toml (docs/guides/own-data.md): images and labels that cannot be read or do not fit, indices that are no
class, depth, normals and boxes that are not plausible, cameras, splits; how often each class occurs. --sheet draws frames with
their labels beside them.
A folder of NYUv2: counts, shapes, dtypes, ranges, the axes of the normals, missing and unreadable files.
A folder of rendered rooms or streets: the same, boxes and kinds of frames too, some compared with what their seeds give.
COCO and other data in its format, ADE20K, ImageNet and other class folders, BDD100K, LibMTL's Cityscapes: what of them cannot
be used, sizes, classes, boxes.
The exit code is 0 when nothing is wrong, 1 when something is, 9 when there is no data set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.surroundings import require_surroundings
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_mtl.console import Console, say
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams

if TYPE_CHECKING:
    from mtl.datasets.published.data_set import PublishedSet
    from mtl.datasets.report import Check, Report

_PROBLEMS_SHOWN = 8
_CLASSES_SHOWN = 255
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}
_OWN = "dataset.toml"


def main(arguments: list[str] | None = None) -> int:
    """Parse, check, print; the exit code."""
    open_standard_streams()
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument(
        "folder",
        type=Path,
        help="with dataset.toml; of NYUv2 (train/ and val/ of image/, label/, depth/, normal/); of rooms; or as published",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw frames with their labels, to be looked at")
    parser.add_argument("--frames", type=int, default=12, help="frames on the sheet (default: %(default)s)")
    parser.add_argument("--images", type=int, default=0, help="of published data sets: look at so many of a split (0: all)")
    parser.add_argument(
        "--kind", default="", help="the data set that it is, where its files do not tell: data.kind in settings"
    )
    asked = parser.parse_args(arguments)
    if asked.frames < 1:
        parser.error(f"--frames should be 1 or more, found {asked.frames}")
    try:
        require_surroundings()
        report = _inspect(asked.folder, _published(asked.folder, asked.kind), asked.images)
        if asked.sheet is not None:
            _write_sheet(asked.folder, _published(asked.folder, asked.kind), asked.sheet, asked.frames)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"validate_dataset: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if asked.json:
        say(json.dumps(report.as_dict(), indent=1))
    else:
        show(report, Console(width=None if sys.stdout.isatty() else 140))
        if asked.sheet is not None:
            say(f"sheet: {asked.sheet}")
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
    """Of every class, its share (of the labelled pixels, or `details["of"]`), boxes, and the frames that it is in, by split."""
    classes = check.details["classes"]
    splits = list(next(iter(classes.values())))
    of = check.details.get("of", "labelled pixels")
    more = f" (the first {_CLASSES_SHOWN} of {len(classes)}; --json has all)" if len(classes) > _CLASSES_SHOWN else ""
    counts = ("boxes", "frames") if "boxes" in check.details else ("frames",)
    table = Table("class", title=f"{check.name}: share of the {of}, {'boxes ' if len(counts) > 1 else ''}and frames{more}")
    for split in splits:
        table.add_column(split, justify="right")
    for name, by_split in list(classes.items())[:_CLASSES_SHOWN]:
        shown = (by_split[split] for split in splits)
        cells = (f"{one['share']:.2%}" + "".join(f"  {one[count]:5d}" for count in counts) for one in shown)
        table.add_row(escape(name), *cells)
    return table


def _published(folder: Path, kind: str) -> PublishedSet | None:
    """The published data set that a folder holds, or that `kind` names; None where it is another one.

    Raises:
        BuildError: no published data set has that name.
    """
    from mtl.datasets.published.data_set import PublishedSet
    from mtl.datasets.sources import data_sets

    every = {name: one for name, one in data_sets().items() if isinstance(one, PublishedSet)}
    if kind:
        if kind not in every:
            raise BuildError(f"--kind should be one of {', '.join(every)}, found {kind!r}; other data sets are known by files")
        return every[kind]
    if (folder / _OWN).exists():
        return None
    return next((one for one in every.values() if one.holds(folder)), None)


def _inspect(folder: Path, published: PublishedSet | None, images: int) -> Report:
    inspect = _inspector(folder, published, images)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("files")

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        return inspect(folder, progress=advance)


def _inspector(folder: Path, published: PublishedSet | None, images: int) -> Callable[..., Report]:
    """What checks the layout that the folder has. Raises BuildError where it has none that is known."""
    from mtl.datasets.folder.check import inspect as of_ones_own
    from mtl.datasets.nyuv2.check import inspect as of_nyuv2
    from mtl.datasets.nyuv2.layout import PARTS
    from mtl.datasets.published.check import inspect as of_published
    from mtl.datasets.rooms.check import inspect as of_rooms
    from mtl.datasets.rooms.dataset import holds_rooms
    from mtl.datasets.streets.check import inspect as of_streets
    from mtl.datasets.streets.dataset import WORLD as STREETS
    from mtl.datasets.worlds.cache import size_folders

    if published is not None:
        return partial(of_published, published, images=images)
    if (folder / _OWN).exists():
        return of_ones_own
    if any((folder / part).exists() for part in PARTS):
        return of_nyuv2
    if holds_rooms(folder):
        return of_rooms
    if size_folders(folder, STREETS):
        return of_streets
    raise BuildError(
        f"{folder} should have {_OWN} (images of your own: docs/guides/own-data.md), {' and '.join(PARTS)} (NYUv2: "
        f"python train/prepare_nyuv2.py makes them), rooms or streets (python train/make_rooms.py and "
        f"train/make_streets.py make them), or be COCO, ADE20K, ImageNet, BDD100K or Cityscapes; "
        f"found {'none of them' if folder.is_dir() else 'no such folder'}. Name what it is: --kind"
    )


def _write_sheet(folder: Path, published: PublishedSet | None, path: Path, frames: int) -> None:
    if published is None and not (folder / _OWN).exists():
        raise BuildError(
            f"--sheet draws a folder that has {_OWN}, and published data sets; {folder} is none of them "
            "(docs/guides/own-data.md)"
        )
    from mtl.datasets.folder.contact_sheet import contact_sheet_png as of_ones_own
    from mtl.datasets.published.contact_sheet import contact_sheet_png as of_published

    try:
        drawn = of_ones_own(folder, frames=frames) if published is None else of_published(published, folder, frames=frames)
        write_atomic(path, drawn)
    except OSError as exc:
        raise BuildError(f"{path} could not be written ({exc.strerror or exc}). Choose another --sheet FILE.png") from exc


if __name__ == "__main__":
    sys.exit(main())
