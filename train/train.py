"""Train on rooms from nothing, evaluate on held-out rooms and write a bundle: `python train/train.py`.

python train/train.py                                        15 minutes on two cores
python train/train.py --config train/configs/rooms-b0.toml   the bundle rooms-b0; then rooms-b0-tuned, rooms-b0-eight
python train/train.py --optimizer.lr 5e-4 --name trial       any setting of train/mtl/settings.py
python train/train.py --name trial --resume                  after an interruption
python train/train.py --config X.toml --qat                  fine-tune X's best weights for integers
torchrun --nproc_per_node 4 train/train.py                   four processes, each with a part of every batch
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from mtl.config import ConfigError, load_config, split_arguments
from mtl.qat.settings import for_qat
from mtl.surroundings import require_surroundings

from edge_mtl.console import Console
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "rooms-quick.toml"


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, export; the exit code."""
    open_standard_streams()
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="TOML file (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; also --KEY VALUE")
    parser.add_argument("--resume", action="store_true", help="continue the run where its last checkpoint was written")
    parser.add_argument(
        "--qat", action="store_true", help="fine-tune with the rounding of integers: the config's best weights, or --model.init"
    )
    parser.add_argument("--no-export", action="store_true", help="stop after training: no test, no bundle")
    asked, rest = parser.parse_known_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    speaks = int(os.environ.get("RANK", "0")) == 0
    typed = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "train/train.py", *(word for word in typed if word != "--resume")])
    try:
        require_surroundings()
        overrides = split_arguments([*(f"--{item}" for item in asked.set), *rest])
        settings = load_config(asked.config, overrides)
        if asked.qat or settings.qat.enabled:
            settings = for_qat(settings, given=overrides)
        from mtl.parallel import PeerFailed, launched
        from mtl.run import Run

        try:
            with launched(settings.loop.device) as parallel:
                best = Run(settings, console=console, resume=asked.resume, parallel=parallel, command=command).train()
        except PeerFailed as failure:  # the other process speaks
            return failure.exit_code
        if not parallel.is_first:
            return 0
        console.print(f"best weights: {best}")
        if not asked.no_export:
            from mtl.bundling import export_bundle

            folder = Path(settings.export.folder) / settings.name
            export_bundle(best, folder, console=console, command=command, replace=True)
            console.print(f"next: edge-mtl build-engine {folder} --int8", highlight=False)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        if speaks or not isinstance(error, ConfigError):  # the others read the same configuration
            print(f"train: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if speaks:
            print("train: stopped; continue with the same command and --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
