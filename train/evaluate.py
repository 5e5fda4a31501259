"""Measure a checkpoint or a bundle on held-out rooms: `python train/evaluate.py bundles/rooms-quick --split test`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from edge_mtl.bundle import DEPLOY_MODEL, Bundle
from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.files import write_atomic


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("model", type=Path, help="runs/<name>/best.safetensors, or the folder of a bundle")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="which rooms (default: %(default)s)")
    parser.add_argument("--count", type=int, default=200, help="how many rooms (default: %(default)s)")
    parser.add_argument("--root", default="data/rooms", help="folder of rendered rooms (default: %(default)s)")
    parser.add_argument("--size", type=_size, metavar="HxW", help="size the rooms are rendered at (default: the network's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    asked = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        where = {"split": asked.split, "root": asked.root}
        metrics = measure(asked.model, count=asked.count, render=asked.size, console=console, **where)
        if asked.json is not None:
            content = {"model": str(asked.model), "split": asked.split, "count": asked.count, "metrics": metrics}
            try:
                write_atomic(asked.json, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
            except OSError as exc:
                raise BuildError(f"{asked.json} could not be written: {exc.strerror}") from exc
    except EdgeMtlError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def measure(
    model: Path, *, split: str, count: int, root: str, render: tuple[int, int] | None, console: Console
) -> dict[str, float | None]:
    """Metrics of a checkpoint (in torch) or a bundle (model.deploy.onnx); not finite ones are None. Raises EdgeMtlError."""
    from mtl.bundling import load_trained
    from mtl.data.sources import RoomsRequest
    from mtl.evaluate import Predictor, evaluate, model_predictor
    from mtl.onnx_predictor import OnnxGraph
    from mtl.progress import metrics_table

    predict: Predictor
    if model.is_dir():
        bundle = Bundle.open(model)
        size, tasks = (bundle.manifest.input.height, bundle.manifest.input.width), bundle.tasks
        predict = OnnxGraph(bundle.read(DEPLOY_MODEL))
    else:
        trained = load_trained(model)
        size, tasks = trained.size, trained.model.tasks
        predict = model_predictor(trained.model)
    height, width = render or size
    frames = RoomsRequest(root, "val" if split == "val" else "test", count, height, width).open(workers=2, progress=True)
    metrics = evaluate(predict, frames, size=size, tasks=tasks)
    console.print(metrics_table({model.name: metrics}, title=f"{count} rooms of the {split} split at {size[0]}x{size[1]}"))
    return {key: value if value == value else None for key, value in metrics.items()}


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"a size is HEIGHTxWIDTH such as 192x256, not {text!r}")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(main())
