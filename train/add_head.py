"""Add a task to a bundle without touching those that it has: `python train/add_head.py BUNDLE --task objects --kind boxes`.

Backbone and decoder stay as they are. What the backbone says of the training frames is computed once and kept in a folder; the
new head is trained on that in minutes, and the next revision of the bundle answers its old tasks as before, bit by bit.

python train/add_head.py bundles/rooms --task scene --kind class                     scenes of rooms
python train/add_head.py bundles/rooms --task objects --kind boxes --data.kind folder --data.root DIR
Any setting of train/mtl/settings.py for data, losses and rates: --data.train 600, --optimizer.lr 1e-3
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from mtl.config import apply_overrides, parse_config, split_arguments
from mtl.surroundings import require_surroundings

from edge_mtl.bundle import Bundle
from edge_mtl.console import Console
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams

_DEFAULTS = {"optimizer.lr": "2e-3", "data.train": "600", "export.evaluation": "120"}


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, write the revision; the exit code."""
    open_standard_streams()
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("bundle", type=Path, help="folder of the bundle; its next revision takes its place, this one is kept")
    parser.add_argument("--task", required=True, help="name of the new task, one that the data set has truths of")
    parser.add_argument("--kind", required=True, choices=("boxes", "class"), help="what kind of task that is")
    parser.add_argument("--steps", type=int, default=1500, help="of training (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="views in each step (default: %(default)s)")
    parser.add_argument("--views", type=int, default=2, help="of every frame, the whole one first (default: %(default)s)")
    parser.add_argument("--cache", type=Path, help="folder of the kept features (default: runs/add-head/BUNDLE-TASK)")
    parser.add_argument("--keep-gb", type=float, default=4.0, help="largest size of that folder (default: %(default)s)")
    asked, rest = parser.parse_known_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    command = shlex.join(["python", "train/add_head.py", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        require_surroundings()
        size = Bundle.open(asked.bundle).manifest.input
        stage = f"[{{height={size.height}, width={size.width}, steps={asked.steps}, batch={asked.batch}}}]"
        rooms = {"data.height": str(size.height), "data.width": str(size.width)}
        fixed = {"stages": stage, "model.tasks": f"['{asked.task}']"}
        settings = parse_config(apply_overrides({}, {**_DEFAULTS, **rooms, **split_arguments(rest), **fixed}))
        from mtl.head_adding.adding import add_head

        made = add_head(
            asked.bundle,
            asked.task,
            asked.kind,
            settings,
            cache=asked.cache or Path("runs/add-head") / f"{asked.bundle.resolve().name}-{asked.task}",
            most_bytes=int(asked.keep_gb * 1e9),
            views=max(1, asked.views),
            command=command,
            console=console,
        )
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"add_head: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("add_head: stopped; the bundle is as it was, the same command continues with the features", file=sys.stderr)
        return 130
    names = ", ".join(made.manifest.tasks)
    console.print(f"{made.path} is at revision {made.manifest.revision} and predicts {names}", highlight=False)
    console.print(f"next: edge-mtl build-engine {made.path} --int8", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
