"""Commands that measure speed. Each imports what it needs when it runs, so that `edge-mtl --help` starts no runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    BackendOption,
    BundleArgument,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    UsageError,
    block,
    check_backend,
    check_precision,
)
from edge_mtl.commands.terminal import Terminal

__all__ = ["benchmark", "compare", "profile"]

_THRESHOLD_HELP = "How much slower, against the reference of its own run, is still fine: 0.05 is five per cent."


@app.command(
    short_help="Time every engine against FP32 ONNX Runtime.",
    epilog=block(
        "Examples:",
        "edge-mtl benchmark",
        "edge-mtl benchmark bundles/rooms-b0 --duration 60 --html card.html --out card.json",
        "edge-mtl benchmark bundles/rooms-b0 bundles/rooms-b2 --precision fp32,int8 --rate 30",
        "edge-mtl benchmark bundles/rooms-b0 --against benchmarks/results/card.json",
    ),
)
def benchmark(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BUNDLE]...", help="Folders of bundles; default: as for the other commands.", show_default=False
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="LIST", help="auto, or names of backends with commas between.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", metavar="LIST", help="auto, or precisions with commas between.")
    ] = "auto",
    device: DeviceOption = "auto",
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, max=100_000, help="Frames per engine.")] = 30,
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", metavar="S", min=0.1, max=86_400, help="Seconds of interleaved timing, in place of --rounds."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="HZ", min=0.1, max=1000, help="Also answer a camera of this rate: age, missed frames."),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, max=64, help="Inference of N frames at once, beside one by one.")
    ] = 1,
    threads: ThreadsOption = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the card, one page.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write it as Markdown.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write all figures as JSON.")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE", help="Fail where something is slower than in that JSON.")
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", metavar="SHARE", min=0.0, max=0.99, help=_THRESHOLD_HELP)] = 0.05,
    json: JsonOption = False,
) -> None:
    """Time every engine of this device against FP32 ONNX Runtime on the plain model.

    Whole frames, from image to maps; the engines are interleaved frame by frame, so that what else the machine does hits
    them alike. Also measured: stages, throughput of stream(), start-up and memory in processes of their own, accuracy on
    the bundle's labelled frames, energy where the device tells, and what held the machine back meanwhile.

    Engines are those that were built here; --precision fp32 is the bundle's own graph, on each backend that --backend names.
    """
    if batch > 1 and rate is not None:
        raise UsageError(f"--rate is of a camera, which gives one frame at a time: leave it or --batch {batch} away.")
    from edge_mtl.bench.collect_targets import TargetFilter
    from edge_mtl.commands.benchmark import BenchmarkConfig, OutputPaths, run

    backends = tuple(map(check_backend, _names("--backend", backend)))
    precisions = tuple(map(check_precision, _names("--precision", precision)))
    wanted = TargetFilter(tuple(bundles or ()), backends, precisions, threads, batch, device)
    results = OutputPaths(html=html, markdown=markdown, out=out, against=against, threshold=threshold)
    run(Terminal(json_output=json), wanted, BenchmarkConfig(rounds=rounds, duration_s=duration, rate_hz=rate), results)


@app.command(
    short_help="Compare two benchmarks as ratios of ratios.",
    epilog=block(
        "Examples:",
        "edge-mtl compare before.json after.json",
        "edge-mtl compare benchmarks/results/card.json card.json --threshold 0.1",
    ),
)
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="JSON of a benchmark.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="JSON of another.")],
    threshold: Annotated[float, typer.Option("--threshold", metavar="SHARE", min=0.0, max=0.99, help=_THRESHOLD_HELP)] = 0.05,
    json: JsonOption = False,
) -> None:
    """Compare two benchmarks, row by row, each against the reference that was measured with it.

    The exit code is 15 where a row became slower by more than the threshold and noise does not explain it, or is gone.
    Runs that measured something else, other frames or another number at once, are refused.
    """
    from edge_mtl.commands.compare import run

    run(Terminal(json_output=json), before, after, threshold=threshold)


@app.command(
    short_help="Show where the time of a frame goes, by part of the network.",
    epilog=block(
        "Examples:",
        "edge-mtl profile",
        "edge-mtl profile bundles/rooms-b0 --precision int8 --backend openvino --svg profile.svg",
    ),
)
def profile(
    bundle: BundleArgument = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, max=10_000, help="Frames to average over.")] = 20,
    layers: Annotated[int, typer.Option("--layers", metavar="N", min=0, max=10_000, help="Slowest layers to list.")] = 10,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write an image.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write all layers as JSON.")] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Show where the time of a frame goes: by the runtime's own profiler, grouped by part of the network.

    Parts are the stages of the backbone, the neck, each head, and pre- and post-processing. Profiling slows a runtime
    down a little: shares are what to read, and the times of `edge-mtl benchmark` are what to believe.
    """
    from edge_mtl.commands.options import EngineOptions
    from edge_mtl.commands.profile import run

    options = EngineOptions(bundle, backend, precision, threads, device)
    run(Terminal(json_output=json), options, rounds=rounds, layers=layers, svg=svg, out=out)


def _names(option: str, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise UsageError(f"{option} expects names with commas between; found {text!r}.")
    return names
