"""Convert NYUv2 into the folder that training reads (LibMTL's layout), or adopt a folder that has it already.

parquet FOLDER    the Hugging Face data set tanganke/nyuv2: 288x384, 13 classes, depth, normals; about 3 GB
                  hf download tanganke/nyuv2 --repo-type dataset --local-dir FOLDER
official FILE     nyu_depth_v2_labeled.mat, about 2.8 GB, of the page "NYU Depth Dataset V2"
                  (cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html); it also needs
                  --splits splits.mat             the official split, from the same site (indoor_seg_sup/splits.mat)
                  --classes classMapping40.mat    894 names to 40 classes, from the repository ankurhanda/nyuv2-meta-data
                  --normals normals_gt            optional: normals as images, such as those of Eigen & Fergus 2015 (from
                                                  which MTAN's were made; since 2022 reported as no longer public). Without,
                                                  planes are fitted to the depth
images FOLDER     a public copy as images of 480x640: image/, depth/ (PNG of 8 or 16 bits), label13/ or label40/, train.txt,
                  test.txt. Depth of 8 bits has steps of 39 mm, which dataset.json and reports say. Normals are fitted planes
adopt FOLDER      writes dataset.json into a folder of .npy files that LibMTL or MTAN can read

The axes of the normals are detected (each copy has its own) and normals are stored for x right, y down, z forward. A
conversion that was stopped continues where it was. Results with plane-fitted normals are not comparable with published ones.

Licence: neither the official page nor the card of the Hugging Face copy states one, as far as we found; the page asks for its
paper to be cited (Silberman et al., ECCV 2012). Ask its authors before any use beyond research. Nothing of it is redistributed
here, and weights trained on it inherit the question.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.arguments import size_argument
from mtl.surroundings import require_surroundings
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from edge_mtl.console import Console
from edge_mtl.errors import BuildError
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams

if TYPE_CHECKING:
    from mtl.datasets.nyuv2.axes import NormalAxes
    from mtl.datasets.nyuv2.convert import Converted
    from mtl.datasets.nyuv2.origin import Origin


def main(arguments: list[str] | None = None) -> int:
    """Parse, convert, report; the exit code."""
    open_standard_streams()
    asked = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        require_surroundings()
        from mtl.datasets.nyuv2.axes import NormalAxes

        axes = NormalAxes.parse(asked.axes) if asked.axes else None
        if asked.kind == "adopt":
            _adopt(asked.folder, axes, console)
        else:
            _convert(asked, axes, console)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"prepare_nyuv2: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("prepare_nyuv2: stopped; done frames are kept, run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _convert(asked: argparse.Namespace, axes: NormalAxes | None, console: Console) -> None:
    from mtl.datasets.nyuv2.convert import convert

    origin = _origin(asked)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames")
    try:
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            tasks = {part: bar.add_task(part, total=asked.limit or count) for part, count in origin.counts.items()}

            def advance(part: str, done: int, total: int) -> None:
                bar.update(tasks[part], completed=done, total=total)  # type: ignore[index]

            converted = convert(origin, asked.out, axes=axes, limit=asked.limit, progress=advance)
    finally:
        origin.close()
    console.print(_table(converted, asked.out))
    console.print(f"next: python train/validate_dataset.py {asked.out}", highlight=False)


def _origin(asked: argparse.Namespace) -> Origin:
    """What to read from; the library for it is imported only here. Raises ImportError where that cannot be done."""
    if asked.kind == "parquet":
        from mtl.datasets.nyuv2.parquet import ParquetFrames

        return ParquetFrames(asked.folder)
    if asked.kind == "images":
        from mtl.datasets.nyuv2.images import ImageFrames

        return ImageFrames(
            asked.folder,
            size=asked.size,
            labels=asked.labels,
            classes=asked.classes,
            unit_m=asked.unit_m,
            farthest_m=asked.farthest_m,
            jobs=asked.jobs,
        )
    from mtl.datasets.nyuv2.official import OfficialFrames

    return OfficialFrames(asked.file, splits=asked.splits, classes=asked.classes, normals=asked.normals, size=asked.size)


def _adopt(folder: Path, axes: NormalAxes | None, console: Console) -> None:
    """Write dataset.json of a folder, again where the axes are stated."""
    from mtl.datasets.nyuv2.frames import describe_folder, new_description
    from mtl.datasets.nyuv2.layout import write_description

    if axes is None:
        description = describe_folder(folder)
    else:
        description = new_description(folder, axes=axes)
        try:
            write_description(folder, description)
        except OSError as exc:
            raise BuildError(f"{folder} cannot be written ({exc.strerror}), and that is where the axes are kept") from exc
    frames = ", ".join(f"{part} {count}" for part, count in description.counts.items())
    console.print(f"{folder}: {frames}; normals are stored as {description.axes} {dict(description.evidence)}", highlight=False)


def _jobs(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"processes are from 1 to 64, not {text!r}")
    return int(text)


def _metres(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1000.0:
        raise argparse.ArgumentTypeError(f"a number of metres above 0 is needed, not {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"a number of frames counts from 0, not {text!r}")
    return int(text)


def _table(converted: Converted, out: Path) -> Table:
    description = converted.description
    table = Table("", "", title=str(out), show_header=False)
    for part, count in description.counts.items():
        table.add_row(f"frames in {part}", str(count))
    table.add_row("written now, kept", f"{converted.written}, {converted.kept}")
    table.add_row("size", f"{description.size[0]}x{description.size[1]}")
    table.add_row("fx, fy, cx, cy", ", ".join(f"{value:.2f}" for value in description.intrinsics))
    table.add_row("axes of the source's normals", str(converted.axes))
    for name, value in description.evidence.items():
        table.add_row(f"  {name.replace('_', ' ')}", str(value))
    for name in ("labels", "depth", "normals"):
        if name in description.source:
            table.add_row(f"source of {name}", str(description.source[name]))
    return table


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="parquet | official | images | adopt")

    def add(name: str, about: str) -> Callable[..., argparse.Action]:
        kind = kinds.add_parser(name, help=about, allow_abbrev=False)
        kind.add_argument("--axes", default="", metavar="+x-y-z", help="state the axes of the normals; detected otherwise")
        if name != "adopt":
            kind.add_argument("--out", type=Path, default=Path("data/nyuv2"), help="folder to write (default: %(default)s)")
            kind.add_argument("--limit", type=_count, default=0, metavar="N", help="only N frames of each part, for a trial")
        return kind.add_argument

    parquet = add("parquet", "the Hugging Face data set tanganke/nyuv2")
    parquet("folder", type=Path, help="with train-*.parquet and val-*.parquet, or its data/")
    official = add("official", "nyu_depth_v2_labeled.mat")
    official("file", type=Path, help="nyu_depth_v2_labeled.mat")
    official("--splits", type=Path, required=True, help="splits.mat")
    official("--classes", type=Path, required=True, help="classMapping40.mat, or its 894 numbers as text")
    official("--normals", type=Path, default=None, metavar="DIR", help="NNNN.png, with masks or without")
    official("--size", type=size_argument, default=(288, 384), metavar="HxW", help="default: 288x384")
    images = add("images", "a public copy as JPEG and PNG images of 480x640")
    images("folder", type=Path, help="with image/, depth/, label13/ or label40/, train.txt and test.txt")
    images("--size", type=size_argument, default=(288, 384), metavar="HxW", help="default: 288x384")
    images("--labels", default="", metavar="NAME", help="folder of the labels, 0 void (default: label13, else label40)")
    images("--classes", type=int, choices=(13, 40), default=0, help="of those labels (default: by the folder's name)")
    images("--unit-m", type=_metres, default=0.001, metavar="M", help="metres of a unit of 16-bit depth (default: 0.001)")
    images("--farthest-m", type=_metres, default=9.99547, metavar="M", help="of 8-bit depth, code 255 (default: 9.99547)")
    images("--jobs", type=_jobs, default=1, metavar="N", help="processes (default: 1)")
    adopt = add("adopt", "a folder of .npy files in LibMTL's layout")
    adopt("folder", type=Path, help="with train/ and val/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
