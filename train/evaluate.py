"""Measure a checkpoint or a bundle on held-out rooms: `python train/evaluate.py bundles/rooms-quick --split test`.

With --engines, every engine that was built of the bundle on this machine is measured on the same rooms as its FP32 graph.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from edge_mtl.build.engines import EngineStore
from edge_mtl.bundle import DEPLOY_MODEL, Bundle
from edge_mtl.errors import BuildError, BundleError, EdgeMtlError, EngineMismatch
from edge_mtl.files import write_atomic

if TYPE_CHECKING:
    from mtl.evaluate import Predictor


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("model", type=Path, help="runs/<name>/best.safetensors, or the folder of a bundle")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="which rooms (default: %(default)s)")
    parser.add_argument("--count", type=int, default=200, help="how many rooms (default: %(default)s)")
    parser.add_argument("--root", default="data/rooms", help="folder of rendered rooms (default: %(default)s)")
    parser.add_argument("--size", type=_size, metavar="HxW", help="size the rooms are rendered at (default: the network's)")
    parser.add_argument("--engines", action="store_true", help="measure the bundle's engines on this machine too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    asked = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        where = {"split": asked.split, "root": asked.root}
        metrics = measure(asked.model, count=asked.count, render=asked.size, engines=asked.engines, console=console, **where)
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
    model: Path,
    *,
    split: str,
    count: int,
    root: str,
    render: tuple[int, int] | None,
    engines: bool,
    console: Console,
) -> dict[str, dict[str, float | None]]:
    """Metrics by name: of a checkpoint (in torch), or of a bundle's FP32 graph and its engines; not finite ones are None.

    Raises:
        EdgeMtlError: the model, the rooms or a runtime cannot be used.
    """
    from mtl.bundling import load_trained
    from mtl.data.sources import RoomsRequest
    from mtl.evaluate import evaluate, model_predictor
    from mtl.progress import metrics_table

    predictors: dict[str, Predictor]
    if model.is_dir():
        bundle = Bundle.open(model)
        size, tasks = (bundle.manifest.input.height, bundle.manifest.input.width), bundle.tasks
        predictors = _graphs(bundle, engines=engines)
    elif engines:
        raise BundleError(f"{model} is no bundle: only bundles have engines. Export it with: python train/export.py {model}")
    else:
        trained = load_trained(model)
        size, tasks = trained.size, trained.model.tasks
        predictors = {model.name: model_predictor(trained.model)}
    height, width = render or size
    frames = RoomsRequest(root, "val" if split == "val" else "test", count, height, width).open(workers=2, progress=True)
    metrics = {name: evaluate(predict, frames, size=size, tasks=tasks) for name, predict in predictors.items()}
    console.print(metrics_table(metrics, title=f"{count} rooms of the {split} split at {size[0]}x{size[1]}"))
    return {name: {key: value if value == value else None for key, value in one.items()} for name, one in metrics.items()}


def _graphs(bundle: Bundle, *, engines: bool) -> dict[str, Predictor]:
    """The FP32 graph of the bundle and, if asked for, the engines that this machine can run."""
    from mtl.onnx_predictor import OnnxGraph

    graphs: dict[str, Predictor] = {"fp32": OnnxGraph(bundle.read(DEPLOY_MODEL))}
    if not engines:
        return graphs
    store = EngineStore(bundle)
    for record in store.list():
        if store.mismatch(record) is None:
            name = f"{record.precision} {record.backend}"
            graphs[name] = OnnxGraph(store.load(record), backend=record.backend, precision=record.precision)
    if len(graphs) == 1:
        raise EngineMismatch(f"No engine of {bundle.path} was built here. Run: edge-mtl build-engine {bundle.path} --int8")
    return graphs


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"a size is HEIGHTxWIDTH such as 192x256, not {text!r}")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(main())
