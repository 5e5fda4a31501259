"""Commands that measure speed. Each imports what it needs when it runs, so that `edge-mtl --help` starts no runtime."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import BackendOption, BundleArgument, JsonOption, PrecisionOption, ThreadsOption, block
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import Terminal

__all__ = ["benchmark"]


@app.command(
    short_help="Time every engine against FP32 ONNX Runtime.",
    epilog=block("Examples:", "edge-mtl benchmark", "edge-mtl benchmark bundles/rooms-b0 --backend openvino --json"),
)
def benchmark(
    bundle: BundleArgument = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, max=100_000, help="Frames per engine.")] = 30,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Time every engine of this device against FP32 ONNX Runtime on the plain model.

    Whole frames, from picture to maps; the engines take turns frame by frame, so that what else the machine does hits
    them alike.
    """
    from edge_mtl.commands.benchmark import run

    run(Terminal(json_output=json), EngineOptions(bundle, backend, precision, threads), rounds=rounds)
