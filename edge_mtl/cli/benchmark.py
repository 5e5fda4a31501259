"""`edge-mtl benchmark`: every engine of this device against FP32 in ONNX Runtime, and where the figures go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    Bf16Option,
    DeviceOption,
    Fp16Option,
    Fp32Option,
    Int8Option,
    JsonOption,
    QuietOption,
    ThreadsOption,
    ThresholdOption,
    UsageError,
    block,
    check_backend,
    check_precision,
    named_precisions,
    parse_names,
)
from edge_mtl.cli.benchmark_table import show
from edge_mtl.cli.renamed import old_flag, renamed_path
from edge_mtl.cli.terminal import Terminal
from edge_mtl.files import plain

if TYPE_CHECKING:
    from edge_mtl.bench.benchmark import BenchmarkConfig
    from edge_mtl.bench.collect_targets import TargetFilter
    from edge_mtl.bench.report import BenchmarkReport
    from edge_mtl.bench.result_files import OutputPaths
    from edge_mtl.bundle import Bundle

__all__ = ["benchmark", "measure_and_show", "run"]


@app.command(
    short_help="Time every engine against FP32 ONNX Runtime.",
    epilog=block(
        "Examples:",
        "edge-mtl benchmark",
        "edge-mtl benchmark bundles/rooms-b0 --duration 60 --html card.html --save card.json",
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
    int8: Int8Option = False,
    fp32: Fp32Option = False,
    fp16: Fp16Option = False,
    bf16: Bf16Option = False,
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
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write all figures as JSON.")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE", help="Fail where something is slower than in that JSON.")
    ] = None,
    threshold: ThresholdOption = 0.05,
    json: JsonOption = False,
    quiet: QuietOption = False,
    out: Annotated[Path | None, old_flag("--out", "FILE")] = None,
) -> None:
    """Time every engine of this device against FP32 ONNX Runtime on the plain model.

    Whole frames, from image to maps; the engines are interleaved frame by frame, so that what else the machine does hits
    them alike. Also measured: stages, throughput of stream(), start-up and memory in processes of their own, accuracy on
    the bundle's labelled frames, energy where the device tells, and what held the machine back meanwhile.

    Engines are those that were built here; --precision fp32 is the bundle's own graph, on each backend that --backend names.
    """
    if batch > 1 and rate is not None:
        raise UsageError(f"--rate is of a camera, which gives one frame at a time: leave it or --batch {batch} away.")
    backends = tuple(map(check_backend, parse_names("--backend", backend)))
    short = named_precisions(int8=int8, fp32=fp32, fp16=fp16, bf16=bf16)
    named = () if short and precision == "auto" else tuple(map(check_precision, parse_names("--precision", precision)))
    precisions = tuple(dict.fromkeys((*short, *named)))
    path = renamed_path("--out", out, "--save", save)
    from edge_mtl.bench.benchmark import BenchmarkConfig
    from edge_mtl.bench.collect_targets import TargetFilter
    from edge_mtl.bench.result_files import OutputPaths

    run(
        Terminal(json_output=json, quiet=quiet),
        TargetFilter(tuple(bundles or ()), backends, precisions, threads, batch, device),
        BenchmarkConfig(rounds=rounds, duration_s=duration, rate_hz=rate),
        OutputPaths(json=path, html=html, markdown=markdown),
        against=against,
        threshold=threshold,
    )


def run(
    terminal: Terminal,
    targets: TargetFilter,
    config: BenchmarkConfig,
    paths: OutputPaths,
    *,
    against: Path | None = None,
    threshold: float = 0.05,
) -> None:
    """Measure, show and write, and compare with the older benchmark `against`.

    Raises:
        BundleError, BackendUnavailable, EngineMismatch: what was asked for is not there.
        RegressionError: something is slower than in the older benchmark.
        OSError: a file cannot be written.
    """
    from edge_mtl.bench.collect_targets import find_bundles, planned
    from edge_mtl.bench.compare import check_comparable, compare, judge, read
    from edge_mtl.cli.compare import show as show_comparison

    paths.check()
    bundles = find_bundles(targets)
    expected = planned(bundles, targets)  # what is not there is refused before anything is loaded
    if against is not None:
        check_comparable(read(against), expected)
    report, images = measure_and_show(terminal, bundles, targets, config, images=paths.images)
    content = plain(report.to_dict())
    for path in paths.write(content, images):
        terminal.show(f"Written: {path}")
    if against is None:
        if terminal.json_output:
            terminal.record(content)
        return
    found = compare(read(against), content, threshold=threshold)
    if terminal.json_output:
        terminal.record({**content, "comparison": found.to_dict()})
    else:
        show_comparison(terminal, found)
    judge(found)


def measure_and_show(
    terminal: Terminal, bundles: Sequence[Bundle], targets: TargetFilter, config: BenchmarkConfig, *, images: int = 0
) -> tuple[BenchmarkReport, list[tuple[str, bytes]]]:
    """The report, shown as tables, and (title, JPEG) of predictions."""
    from edge_mtl.bench.benchmark import measure_benchmark

    with terminal.steps() as step:
        report, drawn = measure_benchmark(
            bundles, targets, config, images=images, command=["edge-mtl", *sys.argv[1:]], progress=step
        )
    show(terminal, report)
    return report, drawn
