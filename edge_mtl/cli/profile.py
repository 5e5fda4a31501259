"""`edge-mtl profile`: where the time of a frame goes, by part of the network."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    BackendOption,
    Bf16Option,
    BundleArgument,
    DeviceOption,
    Fp16Option,
    Fp32Option,
    Int8Option,
    JsonOption,
    PrecisionOption,
    QuietOption,
    ThreadsOption,
    block,
    the_precision,
)
from edge_mtl.cli.renamed import old_flag, renamed_path
from edge_mtl.cli.terminal import Terminal, table
from edge_mtl.files import plain, require_file_names, write_atomic

if TYPE_CHECKING:
    from edge_mtl.bench.profile import FrameProfile

__all__ = ["profile"]


@app.command(
    short_help="Show where the time of a frame goes, by part of the network.",
    epilog=block(
        "Examples:",
        "edge-mtl profile",
        "edge-mtl profile bundles/rooms-b0 --int8 --backend openvino --svg profile.svg",
    ),
)
def profile(
    bundle: BundleArgument = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    int8: Int8Option = False,
    fp32: Fp32Option = False,
    fp16: Fp16Option = False,
    bf16: Bf16Option = False,
    device: DeviceOption = "auto",
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, max=10_000, help="Frames to average over.")] = 20,
    layers: Annotated[int, typer.Option("--layers", metavar="N", min=0, max=10_000, help="Slowest layers to list.")] = 10,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write an image.")] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write all layers as JSON.")] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    out: Annotated[Path | None, old_flag("--out", "FILE")] = None,
) -> None:
    """Show where the time of a frame goes: by the runtime's own profiler, grouped by part of the network.

    Parts are the stages of the backbone, the neck, each head, and pre- and post-processing. Profiling slows a runtime
    down a little: shares are what to read, and the times of `edge-mtl benchmark` are what to believe.
    """
    chosen = the_precision(precision, int8=int8, fp32=fp32, fp16=fp16, bf16=bf16)
    path = renamed_path("--out", out, "--save", save)
    require_file_names(svg, path)
    from edge_mtl.bench.conditions import Conditions
    from edge_mtl.bench.profile import profile_frame
    from edge_mtl.bundle import find

    terminal = Terminal(json_output=json, quiet=quiet)
    conditions = Conditions(["edge-mtl", *sys.argv[1:]])
    with terminal.steps() as step:
        found = profile_frame(
            find(bundle), backend=backend, precision=chosen, device=device, threads=threads, rounds=rounds, progress=step
        )
    content = plain(found.to_dict()) | conditions.describe()
    if terminal.json_output:
        terminal.record(content)
    else:
        _show(terminal, found, layers)
    if path is not None:
        write_atomic(path, (dumps(content, indent=1, allow_nan=False) + "\n").encode())
        terminal.show(f"Written: {path}")
    if svg is not None:
        write_atomic(svg, (_figure(found) + "\n").encode())
        terminal.show(f"Written: {svg}")


def _title(found: FrameProfile) -> str:
    run = found.profile
    return f"{found.bundle}, {run.precision} on {run.backend} {run.version}, {run.threads} threads"


def _figure(found: FrameProfile) -> str:
    """The parts as bars, SVG."""
    from edge_mtl.bench.card.plots import bars
    from edge_mtl.bench.card.theme import standing_alone

    values = [(row.part, row.milliseconds, f"{row.milliseconds:.2f} ms, {row.share:.0%}") for row in found.parts]
    return bars(_title(found), "ms", values, style=standing_alone())


def _show(terminal: Terminal, found: FrameProfile, layers: int) -> None:
    numbers = ("ms", "share", "layers")
    result = table(_title(found), "part", *numbers, right=numbers)
    for row in found.parts:
        result.add_row(row.part, f"{row.milliseconds:.3f}", f"{row.share:.1%}", str(row.layers) if row.layers else "–")
    terminal.show(result)
    kinds = table("the same layers by kind of work", "kind", *numbers, right=numbers)
    for row in found.kinds:
        kinds.add_row(row.part, f"{row.milliseconds:.3f}", f"{row.share:.1%}", str(row.layers))
    terminal.show(kinds)
    timed = found.profile.layers
    if layers:
        slowest = table("slowest layers", "layer", "kind", "part", "ms", right=("ms",))
        order = sorted(range(len(timed)), key=lambda place: -timed[place].median_s)
        for place in order[:layers]:
            layer = timed[place]
            slowest.add_row(layer.name[:60], layer.kind, found.layer_parts[place], f"{layer.median_s * 1e3:.3f}")
        terminal.show(slowest)
    terminal.show(
        f"Inference takes {median(found.profile.run_s) * 1e3:.2f} ms with the profiler and "
        f"{found.frame_s['infer'] * 1e3:.2f} ms without: read the shares."
    )
