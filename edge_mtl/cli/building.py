"""Commands that make engines. Each imports what it needs when it runs, so that `edge-mtl --help` starts no runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    MAX_DROP,
    BackendOption,
    BundleArgument,
    DeviceOption,
    JsonOption,
    MaxDropOption,
    RecipeOption,
    ThreadsOption,
    UsageError,
    block,
    check_choice,
    parse_budget,
)
from edge_mtl.commands.terminal import Terminal

__all__ = ["build_engine", "engines", "export"]


@app.command(
    "build-engine",
    short_help="Build an engine of a bundle for this device.",
    epilog=block(
        "Examples:",
        "edge-mtl build-engine --int8",
        "edge-mtl build-engine bundles/rooms-b0 --int8 --backend openvino --threads 4",
        "edge-mtl build-engine bundles/rooms-b0 --int8 --calibration images-of-my-robot/",
        "edge-mtl build-engine --int8 --recipe my-recipe.toml",
        "edge-mtl build-engine --precision auto --max-drop miou=0.01,rel=0.02,normal=0.5",
        "edge-mtl build-engine --int8 --backend tensorrt --trt builderOptimizationLevel=5 --trt workspace=2048",
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
    max_drop: MaxDropOption = MAX_DROP,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="DIR", help="Images for the INT8 ranges; default: those of the bundle."),
    ] = None,
    recipe: RecipeOption = None,
    threads: ThreadsOption = None,
    trt: Annotated[
        list[str] | None,
        typer.Option("--trt", metavar="NAME=VALUE", help="An option of TensorRT as trtexec calls it; may be given again."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build an engine of a bundle for this device.

    Every candidate of the precision asked for is timed on this machine, tested against the FP32 reference and scored on
    the bundle's labelled frames; the fastest that stays within --max-drop goes into the bundle's engine store. Without
    labelled frames the default of --max-drop only warns; one of your own is kept to.

    With --precision auto all precisions are candidates, and INT8 with some blocks in floating point: blocks that do not pay
    here, and those that it takes to stay within the budget.
    """
    flags = (("int8", int8), ("fp32", fp32), ("fp16", fp16), ("bf16", bf16))
    chosen = [name for name, given in flags if given] + ([] if precision is None else [precision])
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none"
        raise UsageError(
            f"expected one precision of --int8, --fp32, --fp16, --bf16, --precision auto; found {found}. Try --int8."
        )
    check_choice("--precision", chosen[0], ("auto", "int8", "fp32", "fp16", "bf16"))
    if recipe is not None and chosen[0] not in ("int8", "auto"):
        raise UsageError(f"--recipe says how to make INT8; found --{chosen[0]}. Give --int8 or --precision auto with it.")
    from edge_mtl.commands.build_engine import run

    budget = parse_budget(max_drop)
    run(
        Terminal(json_output=json),
        bundle,
        chosen[0],
        backend=backend,
        device=device,
        calibration=calibration,
        threads=threads,
        budget=budget,
        trt=tuple(trt or ()),
        recipe=recipe,
    )


@app.command(
    short_help="List a bundle's engines, why some are stale; remove.",
    epilog=block(
        "Examples:",
        "edge-mtl engines",
        "edge-mtl engines bundles/rooms-b0 --remove 3f2a91c0",
        "edge-mtl engines --remove-stale",
    ),
)
def engines(
    bundle: BundleArgument = None,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="KEY", help="The start of an engine's key, or all.", show_default=False)
    ] = None,
    remove_stale: Annotated[bool, typer.Option("--remove-stale", help="Remove whatever cannot run here.")] = False,
    json: JsonOption = False,
) -> None:
    """List the engines of a bundle, which of them can run on this machine, and why the others cannot."""
    from edge_mtl.commands.engines import run

    run(Terminal(json_output=json), bundle, remove=remove, remove_stale=remove_stale)


@app.command(
    short_help="Write a bundle for other runtimes: ONNX, Triton.",
    epilog=block(
        "Examples:",
        "edge-mtl export bundles/rooms-b0 --onnx rooms-b0.onnx",
        "edge-mtl export bundles/rooms-b0 --triton models/ --max-batch 8",
        "edge-mtl export bundles/rooms-b0 --triton models/ --plan --fp16",
    ),
)
def export(
    bundle: BundleArgument = None,
    onnx: Annotated[
        Path | None,
        typer.Option("--onnx", metavar="FILE", help="The reference ONNX: frames in, maps out.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", metavar="FILE", help="The trained weights as safetensors, to train from.", show_default=False
        ),
    ] = None,
    triton: Annotated[
        Path | None, typer.Option("--triton", metavar="DIR", help="Write a model repository of Triton.", show_default=False)
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="For Triton: a plan of TensorRT, built on this machine, instead of ONNX.")
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="For Triton: layers in half precision.")] = False,
    max_batch: Annotated[
        int, typer.Option("--max-batch", metavar="N", min=1, max=256, help="For Triton: how many requests run together.")
    ] = 1,
    json: JsonOption = False,
) -> None:
    """Write a bundle's network for runtimes of others.

    The graph takes uint8 frames (1, H, W, 3) in RGB of the network's size and gives maps of that size.
    """
    if onnx is None and weights is None and triton is None:
        raise UsageError("expected --onnx FILE, --weights FILE or --triton DIR; found none of them.")
    if triton is None and (plan or fp16 or max_batch > 1):
        raise UsageError("--plan, --fp16 and --max-batch are for --triton DIR, which was not given.")
    from edge_mtl.commands.export import run

    runtime: Literal["onnxruntime", "tensorrt"] = "tensorrt" if plan else "onnxruntime"
    run(
        Terminal(json_output=json),
        bundle,
        onnx=onnx,
        weights=weights,
        triton=triton,
        runtime=runtime,
        half=fp16,
        max_batch=max_batch,
    )
