"""`edge-mtl export`: a bundle for other runtimes: the reference ONNX, or a model repository of Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    BundleArgument,
    Fp16Option,
    Fp32Option,
    JsonOption,
    QuietOption,
    UsageError,
    block,
    check_choice,
    the_precision,
)
from edge_mtl.cli.terminal import Terminal
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.remedies import told

__all__ = ["export"]


@app.command(
    short_help="Write a bundle for others: ONNX, weights, Triton.",
    epilog=block(
        "Examples:",
        "edge-mtl export bundles/rooms-b0 --onnx rooms-b0.onnx",
        "edge-mtl export bundles/rooms-b0 --weights rooms-b0.safetensors",
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
    precision: Annotated[
        str, typer.Option("--precision", metavar="NAME", help="For Triton: fp32, or fp16 for layers in half precision.")
    ] = "fp32",
    fp32: Fp32Option = False,
    fp16: Fp16Option = False,
    max_batch: Annotated[
        int, typer.Option("--max-batch", metavar="N", min=1, max=256, help="For Triton: how many requests run together.")
    ] = 1,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a bundle's network for others: the reference ONNX, the trained weights, or a model repository of Triton.

    The graph takes uint8 frames (1, H, W, 3) in RGB of the network's size and gives maps of that size.
    """
    if onnx is None and weights is None and triton is None:
        raise UsageError("expected --onnx FILE, --weights FILE or --triton DIR; found none of them.")
    given = precision if precision != "fp32" else "auto"  # the default gives way to a short form
    chosen = the_precision(given, int8=False, fp32=fp32, fp16=fp16, bf16=False)
    half = check_choice("--precision", chosen, ("auto", "fp32", "fp16")) == "fp16"
    if triton is None and (plan or half or max_batch > 1):
        raise UsageError("--plan, --fp16 and --max-batch are for --triton DIR, which was not given.")
    from edge_mtl.backends.tensorrt.api import find_library
    from edge_mtl.builder.triton import write_triton
    from edge_mtl.bundle import REFERENCE_ONNX, WEIGHTS, find

    terminal = Terminal(json_output=json, quiet=quiet)
    runtime: Literal["onnxruntime", "tensorrt"] = "tensorrt" if plan else "onnxruntime"
    found = find(bundle)
    written: dict[str, int] = {}
    remarks: list[str] = []
    for name, target in ((REFERENCE_ONNX, onnx), (WEIGHTS, weights)):
        if target is None:
            continue
        payload = found.read(name)
        try:
            write_atomic(target, payload)
        except OSError as exc:
            raise BuildError(f"{target} cannot be written {told(exc)}") from exc
        written[str(target)] = len(payload)
    if triton is not None:
        library = find_library("tensorrt") if runtime == "tensorrt" else None
        with terminal.steps() as step:
            model = write_triton(
                found,
                triton,
                runtime=runtime,
                precision="fp16" if half else "fp32",
                max_batch=max_batch,
                library=library,
                progress=lambda done, total: step("building a plan", done, total),
            )
        written |= {str(model.path / name): size for name, size in model.files.items()}
        remarks.append(model.remark)
    if terminal.json_output:
        terminal.record({"bundle": str(found.path), "written": written, "remarks": remarks})
        return
    for name, size in written.items():
        terminal.show(f"{name}: {size / 1e6:.2f} MB" if size > 1e4 else f"{name}: {size} bytes")
    for remark in remarks:
        terminal.show(remark)
