"""Calibrate a bundle: with the train split it was trained on, or with a folder, a video or a ROS bag.

    python calibration/calibrate.py --config train/configs/rooms-b0.toml --bundle bundles/rooms-b0 --pool 512
    python calibration/calibrate.py tour.mp4 --bundle bundles/rooms-b0

The first knows the datasets of training, which the package does not; the second is `edge-mtl calibrate`, for a clone that is
not installed. Either way frames are chosen, INT8 graphs made with them and checked, and the bundle gets a new revision.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_mtl import opencv
from edge_mtl.cli import main as edge_mtl
from edge_mtl.cli.arguments import MAX_DROP, UsageError, parse_budget
from edge_mtl.cli.terminal import Terminal
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import sha256_bytes

if TYPE_CHECKING:
    from edge_mtl.sources.frame_source import FrameSource


def main(arguments: list[str]) -> int:
    """Parse and calibrate; the exit code."""
    if not any(word == "--config" or word.startswith("--config=") for word in arguments):
        return edge_mtl(["calibrate", *arguments])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="of the training, for its train split")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--pool", type=int, default=512, help="frames to choose from, evenly spaced (default: %(default)s)")
    parser.add_argument("--count", type=int, help="frames to choose (default: as the recipe says)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedding", choices=("network", "colour"), default="network")
    parser.add_argument("--max-drop", default=MAX_DROP, help="as of edge-mtl calibrate")
    parser.add_argument("--recipe", type=Path, help="how to quantize, TOML (default: the bundle's own, else the package's)")
    parser.add_argument("--out", type=Path, help="only write the chosen frames there, as images")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="JSON on standard output, and nothing else there")
    parser.add_argument("--quiet", action="store_true", help="no progress and no remarks")
    asked = parser.parse_args(arguments)
    terminal = Terminal(json_output=asked.json, quiet=asked.quiet)
    try:
        opencv.require()
        from edge_mtl.cli.calibrate import SamplingOptions, calibrate_with, write_choice

        options = SamplingOptions(asked.count, asked.seed, asked.embedding)
        budget = parse_budget(asked.max_drop)
        source = train_split(asked.config, asked.pool)
        if asked.out is not None:
            write_choice(terminal, asked.bundle, source, options, asked.out, threads=asked.threads)
        else:
            calibrate_with(
                terminal,
                asked.bundle,
                source,
                options,
                budget=budget,
                engines=False,
                threads=asked.threads,
                recipe=asked.recipe,
            )
    except (EdgeMtlError, UsageError, ValueError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt:
        print("calibrate: stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def train_split(config: Path, pool: int) -> FrameSource:
    """Frames of the last stage of a training, evenly spaced over its train split.

    Raises:
        EdgeMtlError: the configuration or the dataset cannot be used.
    """
    from mtl.config import describe, load_config
    from mtl.datasets.sources import train_frames

    from edge_mtl.calibration.source import given_frames

    settings = load_config(config)
    stage = settings.stages[-1]
    frames = train_frames(settings.data, stage).open(progress=True)
    count = max(1, min(pool, len(frames)))
    indices = [number * len(frames) // count for number in range(count)]
    identity = sha256_bytes(f"{describe(settings)['data']} {stage} {indices}".encode())
    name = f"{settings.data.kind} train split"
    return given_frames(name, lambda number: frames[indices[number]].image, count, identity=identity)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
