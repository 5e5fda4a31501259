"""`edge-mtl build-engine`: runs a build and shows what was tried, what it gained and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    MAX_DROP,
    BackendOption,
    Bf16Option,
    BundleArgument,
    DeviceOption,
    Fp16Option,
    Fp32Option,
    Int8Option,
    JsonOption,
    MaxDropOption,
    QuietOption,
    RecipeOption,
    ThreadsOption,
    UsageError,
    block,
    check_choice,
    named_precisions,
    parse_budget,
)
from edge_mtl.cli.terminal import Terminal, table
from edge_mtl.tasks import Measure, headlines

if TYPE_CHECKING:
    from edge_mtl.builder.report import BuildReport, BuildRow
    from edge_mtl.builder.tensorrt.options import PlanOptions
    from edge_mtl.bundle import Bundle
    from edge_mtl.evaluation.budget import Budget
    from edge_mtl.quantization.recipes import Recipe

__all__ = ["build", "build_engine"]

_STEPS = {
    "wait": "waiting for another build of this bundle",
    "calibrate": "running calibration frames",
    "quantize": "quantizing",
    "search": "looking for blocks that are better kept in floating point",
    "plan": "building a plan of TensorRT",
    "self-test": "self-test on golden frames",
    "time": "timing whole frames, interleaved",
    "evaluate": "scoring on labelled frames",
    "store": "storing engines",
}


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
    int8: Int8Option = False,
    fp32: Fp32Option = False,
    fp16: Fp16Option = False,
    bf16: Bf16Option = False,
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
    quiet: QuietOption = False,
) -> None:
    """Build an engine of a bundle for this device.

    Every candidate of the precision asked for is timed on this machine, tested against the FP32 reference and scored on
    the bundle's labelled frames; the fastest that stays within --max-drop goes into the bundle's engine store. Without
    labelled frames the default of --max-drop only warns; one of your own is kept to.

    With --precision auto all precisions are candidates, and INT8 with some blocks in floating point: blocks that do not pay
    here, and those that it takes to stay within the budget.
    """
    chosen = named_precisions(int8=int8, fp32=fp32, fp16=fp16, bf16=bf16) + ([] if precision is None else [precision])
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none"
        raise UsageError(
            f"expected one precision of --int8, --fp32, --fp16, --bf16, --precision auto; found {found}. Try --int8."
        )
    check_choice("--precision", chosen[0], ("auto", "int8", "fp32", "fp16", "bf16"))
    if recipe is not None and chosen[0] not in ("int8", "auto"):
        raise UsageError(f"--recipe says how to make INT8; found --{chosen[0]}. Give --int8 or --precision auto with it.")
    from edge_mtl.builder.tensorrt.options import parse_options
    from edge_mtl.bundle import find
    from edge_mtl.quantization.recipes import load_recipe

    terminal, budget, options = Terminal(json_output=json, quiet=quiet), parse_budget(max_drop), parse_options(tuple(trt or ()))
    rules = None if recipe is None else load_recipe(recipe)
    opened = find(bundle)
    report = build(
        terminal,
        opened,
        chosen[0],
        backend=backend,
        device=device,
        calibration=calibration,
        threads=threads,
        budget=budget,
        plan_options=options,
        recipe=rules,
    )
    if terminal.json_output:
        terminal.record({"bundle": str(opened.path), "engine": report.record, **report.to_dict()})


def build(
    terminal: Terminal,
    bundle: Bundle,
    precision: str,
    *,
    backend: str = "auto",
    device: str = "auto",
    calibration: Path | None = None,
    threads: int | None = None,
    budget: Budget | None,
    plan_options: PlanOptions | None = None,
    recipe: Recipe | None = None,
) -> BuildReport:
    """Build with progress, and show the candidates. Raises what `edge_mtl.builder.pipeline.build_engine` raises."""
    from edge_mtl.builder import pipeline
    from edge_mtl.calibration.frames import OWN_FRAMES

    with terminal.steps() as step:
        report = pipeline.build_engine(
            bundle,
            precision=precision,
            backend=backend,
            device=device,
            calibration=calibration,
            threads=threads,
            budget=budget,
            plan_options=plan_options,
            recipe=recipe,
            progress=lambda name, done, total: step(_STEPS.get(name, name), done, total),
        )
    for warning in report.warnings:
        terminal.warn(warning)
    terminal.show(_candidates(bundle, report))
    for row in report.rows:
        if not row.baseline:
            mark = "chosen" if row.chosen else "stored too" if row.stored else "not stored"
            terminal.show(f"{row.name} on {row.backend}: {mark}. {row.reason}")
    terminal.show("agreement: with FP32 on the frames of evaluation/, one figure per task.")
    done = "was built by another process meanwhile" if report.reused else f"built in {report.seconds:.0f} s"
    if report.calibration and not report.record.plan:
        options, frames = report.record.options, report.calibration
        terminal.show(
            f"INT8 by the recipe {options['recipe']} ({str(options['recipe_digest'])[:12]}), "
            f"from {'recorded statistics of ' if frames.get('recorded') else ''}{frames['count']} frames of "
            f"{'the bundle' if frames['source'] == OWN_FRAMES else frames['source']}."
        )
    terminal.show(f"{report.path} {done}.")
    return report


def _candidates(bundle: Bundle, report: BuildReport) -> Table:
    metrics = headlines(*(row.accuracy for row in report.rows))
    headers = [measure.title for measure in metrics.values()]
    numbers = ("ms", "p90", "gain", "MB")
    columns = ("precision", "runtime", *numbers, "agreement", *headers)
    result = table(f"{bundle.name}: engines for this device", *columns, right=numbers)
    before = report.baseline.accuracy
    for row in report.rows:
        cells = [f"{'▶' if row.chosen else ' '} {row.name}", row.backend + (", plain" if row.baseline else "")]
        cells += [_number(row.latency_ms, "{:.1f}"), _number(row.latency_p90_ms, "{:.1f}"), _number(row.ratio, "{:.2f}×")]
        cells += [f"{row.size_bytes / 1e6:.2f}", "" if row.baseline else _agreement(row)]
        cells += [
            _accuracy(measure, None if row.baseline else before.get(key), row.accuracy.get(key))
            for key, measure in metrics.items()
        ]
        result.add_row(*cells, style="bold" if row.chosen else None)
    return result


def _number(value: float | None, text: str) -> str:
    return "–" if value is None else text.format(value)


def _agreement(row: BuildRow) -> str:
    shown = headlines(row.agreement)
    return " / ".join(measure.show(row.agreement[key]) for key, measure in shown.items()) or "–"


def _accuracy(measure: Measure, before: float | None, after: float | None) -> str:
    show = measure.show
    if after is None:
        return "–"
    return show(after) if before is None else f"{show(before)} → {show(after)}"
