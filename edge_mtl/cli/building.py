"""Commands that make engines. Each imports what it needs when it runs, so that `edge-mtl --help` starts no runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    MAX_DROP_BUILD_HELP,
    BackendOption,
    BundleArgument,
    JsonOption,
    ThreadsOption,
    UsageError,
    block,
    parse_budget,
)
from edge_mtl.commands.terminal import Terminal

__all__ = ["build_engine"]


@app.command(
    "build-engine",
    short_help="Build an engine of a bundle for this device.",
    epilog=block(
        "Examples:",
        "edge-mtl build-engine --int8",
        "edge-mtl build-engine bundles/rooms-b0 --int8 --backend openvino --threads 4",
        "edge-mtl build-engine bundles/rooms-b0 --int8 --calibration pictures-of-my-robot/",
        "edge-mtl build-engine --precision auto --max-drop miou=0.01,rel=0.02,normal=0.5",
    ),
)
def build_engine(
    bundle: BundleArgument = None,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers, calibrated.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Full precision.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16, where the processor computes with it.")] = False,
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="NAME", help="int8, fp32, fp16, bf16, or auto: the fastest within the budget."),
    ] = None,
    max_drop: Annotated[str | None, typer.Option("--max-drop", metavar="LIST", help=MAX_DROP_BUILD_HELP)] = None,
    backend: BackendOption = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="DIR", help="Pictures for the INT8 ranges; default: those of the bundle."),
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Build an engine of a bundle for this device.

    Every candidate of the precision asked for is timed on this machine, tested against the FP32 reference and scored on
    the bundle's labelled frames; the fastest that keeps its accuracy goes into the bundle's engine store.

    With --precision auto all precisions are candidates, and INT8 with some blocks in floats: blocks that do not pay
    here, and those that it takes to stay within the budget.
    """
    flags = (("int8", int8), ("fp32", fp32), ("fp16", fp16), ("bf16", bf16))
    chosen = [name for name, given in flags if given] + ([] if precision is None else [precision])
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none"
        raise UsageError(
            f"expected one precision of --int8, --fp32, --fp16, --bf16, --precision auto; found {found}. Try --int8."
        )
    from edge_mtl.commands.build_engine import run

    budget = None if max_drop is None else parse_budget(max_drop)
    run(Terminal(json_output=json), bundle, chosen[0], backend=backend, calibration=calibration, threads=threads, budget=budget)
