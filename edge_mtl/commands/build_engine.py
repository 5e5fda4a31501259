"""`edge-mtl build-engine`: runs a build and shows what was tried, what it gained and what it cost.

Knows tables; what is built, measured and chosen is decided in edge_mtl.builder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from edge_mtl.builder.pipeline import build_engine
from edge_mtl.builder.report import BuildReport, BuildRow
from edge_mtl.builder.tensorrt.options import PlanOptions, parse_options
from edge_mtl.bundle import Bundle, find
from edge_mtl.calibration.frames import OWN_FRAMES
from edge_mtl.commands.terminal import Terminal, table
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget
from edge_mtl.quantization.recipes import Recipe, load_recipe
from edge_mtl.tasks import Measure, headlines

__all__ = ["build", "run"]

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


def run(
    terminal: Terminal,
    path: Path | None,
    precision: str,
    *,
    backend: str,
    device: str = "auto",
    calibration: Path | None,
    threads: int | None,
    budget: Budget | None = DEFAULT_BUDGET,
    trt: Sequence[str] = (),
    recipe: Path | None = None,
) -> None:
    """Build and report. Raises what `edge_mtl.builder.pipeline.build_engine` raises.

    Args:
        trt: options of TensorRT as trtexec calls them, NAME=VALUE each.
        recipe: how to quantize, a TOML file; the bundle's own, or else the package's, when not given.
    """
    plan_options = parse_options(trt)
    rules = None if recipe is None else load_recipe(recipe)
    bundle = find(path)
    report = build(
        terminal,
        bundle,
        precision,
        backend=backend,
        device=device,
        calibration=calibration,
        threads=threads,
        budget=budget,
        plan_options=plan_options,
        recipe=rules,
    )
    if terminal.json_output:
        terminal.record({"bundle": str(bundle.path), "engine": report.record, **report.to_dict()})


def build(
    terminal: Terminal,
    bundle: Bundle,
    precision: str,
    *,
    backend: str = "auto",
    device: str = "auto",
    calibration: Path | None = None,
    threads: int | None = None,
    budget: Budget | None = DEFAULT_BUDGET,
    plan_options: PlanOptions | None = None,
    recipe: Recipe | None = None,
) -> BuildReport:
    """Build with progress, and show the candidates."""
    with terminal.steps() as step:
        report = build_engine(
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
        terminal.note(f"warning: {warning}")
    terminal.show(_candidates(bundle, report))
    for row in report.rows:
        if not row.baseline:
            mark = "chosen" if row.chosen else "stored too" if row.stored else "not stored"
            terminal.show(f"{row.name} on {row.backend}: {mark}. {row.reason}")
    terminal.show("agreement: with FP32 on the labelled frames, one figure per task.")
    done = "was built by another process meanwhile" if report.reused else f"built in {report.seconds:.0f} s"
    if report.calibration and not report.record.plan:
        options, frames = report.record.options, report.calibration
        terminal.show(
            f"INT8 by the recipe {options['recipe']} ({str(options['recipe_digest'])[:12]}), "
            f"from {frames['count']} frames of {'the bundle' if frames['source'] == OWN_FRAMES else frames['source']}."
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
