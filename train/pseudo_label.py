"""Label the images of a folder with an engine of a bundle, where it can be trusted: `data.kind = "folder"` trains on them.

python train/pseudo_label.py data/warehouse --bundle bundles/rooms-b0 --camera 518.9,519.5,325.6,253.7 \\
    --title "our warehouse" --licence "internal use only" --not-redistributable --preview 12
python train/pseudo_label.py data/warehouse --bundle bundles/rooms-b0 --tasks segmentation --confidence 0.95
python train/pseudo_label.py data/warehouse --remove

FOLDER has images/ with PNGs and JPEGs, in sub-folders too. Pixels that are not trusted are unknown: 255 in label maps, 0 in
depth and normals. Labels that people made are never written over; pseudo-labels.json says which files are pseudo-labels. A
run that was stopped goes on with the same command. docs/guides/pseudo-labels.md has how far to trust them, measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.arguments import size_argument
from mtl.surroundings import require_surroundings
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edge_mtl.console import Console
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams

if TYPE_CHECKING:
    from mtl.pseudo_labels.dataset_file import Stated

_PREVIEWS = Path("out/pseudo-labels")


def main(arguments: list[str] | None = None) -> int:
    """Parse, label or remove, report; the exit code."""
    open_standard_streams()
    parser = _parser()
    asked = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140, stderr=asked.json)
    try:
        require_surroundings()
        if asked.remove:
            return _remove(asked, console)
        return _label(asked, console)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"pseudo_label: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("pseudo_label: stopped; labels written so far are whole and recorded, run again to go on", file=sys.stderr)
        return 130


def _label(asked: argparse.Namespace, console: Console) -> int:
    from mtl.pseudo_labels.labelling import LabelOptions, label_folder
    from mtl.pseudo_labels.preview import write_previews
    from mtl.pseudo_labels.report import remarks, summary, summary_table
    from mtl.pseudo_labels.trust import Thresholds

    from edge_mtl.bundle import find

    options = LabelOptions(
        tasks=asked.tasks,
        thresholds=Thresholds(
            confidence=asked.confidence,
            geometry_confidence=asked.geometry_confidence,
            depth_mirror=asked.depth_mirror,
            normals_mirror_deg=asked.normals_mirror,
            consistency_deg=asked.consistency,
        ),
        precision=asked.precision,
        backend=asked.backend,
        device=asked.device,
        threads=asked.threads,
        as_floats=asked.as_floats,
        held_out=asked.held_out,
        limit=asked.limit,
    )
    bundle, stated = find(asked.bundle), _stated(asked)
    with _progress() as (advance, note):
        labelled = label_folder(asked.folder, bundle, options, stated=stated, on_skip=note, progress=advance)
    if asked.json:
        sys.stdout.write(json.dumps(summary(labelled), indent=1) + "\n")
    console.print(summary_table(labelled))
    for remark in remarks(labelled):
        console.print(remark, highlight=False, markup=False, soft_wrap=True)
    if asked.preview:
        paths = write_previews(labelled, asked.out, count=asked.preview)
        console.print(f"{len(paths)} previews in {asked.out}", highlight=False)
    if labelled.stopped:
        print("pseudo_label: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _remove(asked: argparse.Namespace, console: Console) -> int:
    from mtl.pseudo_labels.removal import remove_labels

    removed = remove_labels(asked.folder, asked.tasks)
    if asked.json:
        sys.stdout.write(json.dumps({"deleted": removed.deleted, "changed": list(map(str, removed.changed))}, indent=1) + "\n")
    for task, count in removed.deleted.items():
        console.print(f"{task}: {count} pseudo-labels deleted", highlight=False)
    for path in removed.changed:
        console.print(f"{path} was changed since it was recorded: left alone", highlight=False, markup=False, soft_wrap=True)
    return 0


def _stated(asked: argparse.Namespace) -> Stated:
    """What the command line says of the folder; on a terminal what is missing for a new description is asked for."""
    from mtl.datasets.folder.description import DESCRIPTION
    from mtl.pseudo_labels.cameras import parse_camera
    from mtl.pseudo_labels.dataset_file import Stated

    title, licence, redistributable = asked.title, asked.licence, asked.redistributable
    if asked.folder.is_dir() and not (asked.folder / DESCRIPTION).exists() and sys.stdin.isatty():
        print(f"{asked.folder} has no {DESCRIPTION} yet.", file=sys.stderr)
        title = title or _asked(f"What is the data set called? [{asked.folder.resolve().name}] ") or None
        while not licence:
            licence = _asked("Under which licence or terms are its images? ")
        while redistributable is None:
            redistributable = {"y": True, "yes": True, "n": False, "no": False}.get(
                _asked("May its images be copied into bundles, reports and cards? [y/n] ").lower()
            )
    camera = parse_camera(asked.camera, size=asked.camera_size, rectified=asked.rectified) if asked.camera else None
    return Stated(title, licence, redistributable, camera)


def _asked(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:
        raise KeyboardInterrupt from None


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str], None]]]:
    """What to call with (what is done, done, total), and with a line to print above the bar."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images")
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("opening the engine", total=None)
        shown = ""

        def advance(what: str, done: int, total: int) -> None:
            nonlocal shown
            if what != shown:
                bar.reset(task, description=what)
                shown = what
            bar.update(task, completed=done, total=total)

        def note(text: str) -> None:
            console.print(f"skipped: {text}", highlight=False, markup=False, soft_wrap=True)

        yield advance, note


def _share(text: str) -> float:
    return _number(text, most=1.0, noun="a share of 0 to 1")


def _degrees(text: str) -> float:
    return _number(text, most=180.0, noun="an angle of 0 to 180 degrees")


def _number(text: str, *, most: float, noun: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= most:
        raise argparse.ArgumentTypeError(f"expected {noun}, not {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number from 1, not {text!r}")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names of tasks with commas between them, not {text!r}")
    return names


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="of the data set, with images/ in it")
    parser.add_argument("--bundle", type=Path, help="default: $EDGE_MTL_BUNDLE, the newest in ./bundles, the demo bundle")
    parser.add_argument("--tasks", type=_names, default=(), metavar="A,B", help="default: all of the bundle")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")

    trust = parser.add_argument_group("what is kept")
    trust.add_argument("--confidence", type=_share, default=0.9, metavar="P", help="labels: softmax at least (%(default)s)")
    trust.add_argument(
        "--geometry-confidence",
        type=_share,
        default=0.7,
        metavar="P",
        help="depth, normals: softmax of the bundle's label map at least (%(default)s)",
    )
    trust.add_argument(
        "--depth-mirror",
        type=_share,
        default=0.05,
        metavar="X",
        help="depth: differs from the mirrored image's by (%(default)s)",
    )
    trust.add_argument(
        "--normals-mirror", type=_degrees, default=10.0, metavar="DEG", help="normals: likewise, degrees (%(default)s)"
    )
    trust.add_argument(
        "--consistency", type=_degrees, default=45.0, metavar="DEG", help="normals: angle to those of the depth (%(default)s)"
    )
    trust.add_argument(
        "--held-out",
        choices=("auto", "skip", "label"),
        default="auto",
        help="frames of val and test: skip them, label them, or skip them where people labelled some (auto)",
    )

    engine = parser.add_argument_group("engine")
    engine.add_argument("--precision", default="fp32", help="default: %(default)s; 'auto' takes the fastest engine built here")
    engine.add_argument("--backend", default="auto", help="default: %(default)s")
    engine.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (default: %(default)s)")
    engine.add_argument("--threads", type=_count, help="of the runtime")

    about = parser.add_argument_group("for a folder without dataset.toml")
    about.add_argument("--title", help="what the data set is called")
    about.add_argument("--licence", help="the terms of its images, such as 'CC BY 4.0' or 'internal use only'")
    terms = about.add_mutually_exclusive_group()
    terms.add_argument(
        "--redistributable", action="store_const", const=True, help="its images may be copied into bundles, reports and cards"
    )
    terms.add_argument("--not-redistributable", action="store_const", const=False, dest="redistributable", help="they may not")
    about.add_argument("--camera", metavar="CAMERA", help="fx,fy,cx,cy in pixels, or a camera_info YAML of ROS (needs PyYAML)")
    about.add_argument(
        "--camera-size", type=size_argument, metavar="HxW", help="size that fx,fy,cx,cy are for (the first image's)"
    )
    about.add_argument("--rectified", action="store_true", help="images are rectified: take P of the YAML, not K")

    files = parser.add_argument_group("files")
    files.add_argument("--as-floats", action="store_true", help="depth and normals as float32 .npy: exact, and larger")
    files.add_argument("--limit", type=_count, default=0, metavar="N", help="look at N images only, for a trial")
    files.add_argument(
        "--preview", type=_count, default=0, metavar="N", help="images of N labelled frames to look at, in --out"
    )
    files.add_argument("--out", type=Path, default=_PREVIEWS, metavar="DIR", help="folder of the previews (%(default)s)")
    files.add_argument("--remove", action="store_true", help="delete the pseudo-labels (of --tasks) and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
