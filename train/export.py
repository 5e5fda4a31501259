"""Write a bundle from a checkpoint: `python train/export.py runs/rooms-quick/best.safetensors --out bundles/rooms-quick`.

What goes into it can be changed: --export.evaluation 16, --export.jpeg_quality 85, --data.root DIR (see train/mtl/settings.py).
--tasks depth segmentation writes a bundle of these tasks alone; the network answers them as before. --size 192x256 writes one
that looks at smaller images than it was trained on: faster, and less right; the table that is shown says by how much.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mtl.arguments import size_argument
from mtl.surroundings import require_surroundings

from edge_mtl.console import Console
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams


def main(arguments: list[str] | None = None) -> int:
    """Parse and export; the exit code."""
    open_standard_streams()
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("checkpoint", type=Path, help="weights that train/train.py wrote: runs/<name>/best.safetensors")
    parser.add_argument("--out", type=Path, help="folder of the bundle (default: bundles/<name of the run>)")
    parser.add_argument("--name", help="name in the manifest (default: the folder's name)")
    parser.add_argument(
        "--tasks", nargs="+", default=[], metavar="TASK", help="answer these only (default: all that were trained)"
    )
    parser.add_argument(
        "--size", type=size_argument, metavar="HxW", help="of the network's input, multiples of 32 (default: as trained)"
    )
    parser.add_argument("--replace", action="store_true", help="replace an existing bundle")
    asked, rest = parser.parse_known_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        require_surroundings()
        from mtl.bundling import export_bundle
        from mtl.config import split_arguments

        out = asked.out or Path("bundles") / asked.checkpoint.resolve().parent.name
        command = "python " + " ".join(sys.argv)
        overrides = split_arguments(rest)
        export_bundle(
            asked.checkpoint,
            out,
            console=console,
            command=command,
            replace=asked.replace,
            name=asked.name,
            overrides=overrides,
            tasks=asked.tasks,
            size=asked.size,
        )
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"export: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("export: stopped; nothing was written", file=sys.stderr)
        return 130
    console.print(f"next: edge-mtl build-engine {out} --int8", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
