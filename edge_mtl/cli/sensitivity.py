"""`edge-mtl sensitivity`: which blocks suffer from INT8 and which gain, as a table, an image and a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import BundleArgument, JsonOption, QuietOption, RecipeOption, ThreadsOption, block, check_choice
from edge_mtl.cli.terminal import Terminal, table
from edge_mtl.files import require_writable, write_atomic
from edge_mtl.tasks import KINDS, BudgetItem, measure_of

if TYPE_CHECKING:
    from edge_mtl.evaluation.sensitivity.blocks import Level
    from edge_mtl.evaluation.sensitivity.report import Sensitivity

__all__ = ["sensitivity"]

_STEPS = {
    "calibrate": "running calibration frames",
    "reference": "running FP32",
    "prefix": "remembering FP32 activations",
    "blocks": "quantizing one block at a time",
    "time": "timing blocks, interleaved",
}


@app.command(
    short_help="Rank a network's blocks by what integers cost and gain.",
    epilog=block(
        "Examples:",
        "edge-mtl sensitivity",
        "edge-mtl sensitivity bundles/rooms-b0 --target tensorrt --level layer",
    ),
)
def sensitivity(
    bundle: BundleArgument = None,
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="Q/DQ style: onnxruntime, openvino, tensorrt, or a plug-in's.")
    ] = "onnxruntime",
    level: Annotated[str, typer.Option("--level", metavar="NAME", help="block, or layer.")] = "block",
    recipe: RecipeOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="DIR", help="Images for the INT8 ranges; default: those of the bundle."),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=1, help="Labelled frames to score on.")] = 16,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=0, help="Timed runs per block; 0: none.")] = 12,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the JSON file and the image.")] = Path("out"),
    threads: ThreadsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Rank a network's blocks by what integers cost and gain.

    Each block is quantized alone; its noise at every head, the accuracy that is lost and the time that is saved go into
    a table, an image and a JSON file. A run that was stopped continues where it was.
    """
    from edge_mtl.backends import qdq_styles, style_of

    check_choice("--target", target, tuple(qdq_styles()))
    check_choice("--level", level, ("block", "layer"))
    from edge_mtl.bundle import find
    from edge_mtl.calibration.frames import load_calibration
    from edge_mtl.evaluation.labelled_frames import frames_to_judge_on
    from edge_mtl.evaluation.sensitivity.figure import draw_sensitivity
    from edge_mtl.evaluation.sensitivity.measure import measure_sensitivity
    from edge_mtl.image.encoding import encode_image
    from edge_mtl.quantization.learned import int8_recipe
    from edge_mtl.quantization.recipes import load_recipe, recipe_for

    terminal = Terminal(json_output=json, quiet=quiet)
    found = find(bundle)
    if recipe is not None:
        chosen = load_recipe(recipe)
    else:
        chosen = recipe_for(target, load_recipe()) if style_of(target).recipe else int8_recipe(found)
    images = load_calibration(
        found, calibration, count=chosen.calibration.frames, unreadable_share=chosen.calibration.unreadable_share
    )
    labelled = frames_to_judge_on(found, images.frames, count=frames)
    place = out / f"{found.path.resolve().name}-{target}-{level}.json"
    require_writable(out)
    with terminal.steps() as step:
        result = measure_sensitivity(
            found,
            images,
            labelled,
            recipe=chosen,
            target=target,
            level=cast("Level", level),
            rounds=rounds,
            threads=threads,
            resume=place,
            progress=lambda name, done, total: step(_STEPS.get(name, name), done, total),
        )
    drawn = place.with_suffix(".png")
    write_atomic(drawn, encode_image(draw_sensitivity(result)))
    terminal.show(_table(result))
    terminal.show(
        "SQNR: power of FP32's raw maps over that of the noise, decibels; about 6 dB are one bit. "
        "lost: accuracy on the labelled frames. saved: of FP32's time when this block alone runs in INT8."
    )
    terminal.show(f"{place} and {drawn} written.")
    if terminal.json_output:
        terminal.record({"file": str(place), "picture": str(drawn), **result.to_dict()})


def _table(found: Sensitivity) -> Table:
    heads = list(found.rows[0].sqnr_db) if found.rows else []
    lost = {key: _budget(key) for key in (found.rows[0].lost if found.rows else ())}
    factors = {key: 1.0 if item.unit == "°" else 100.0 for key, item in lost.items()}
    titles = (_title(key, item) for key, item in lost.items())
    numbers = ("layers", *(f"{head} dB" for head in heads), *titles, "saved")
    result = table(f"{found.bundle}: the most sensitive first", found.level, *numbers, right=numbers)
    for row in found.ranked():
        cells = [row.name, str(row.layers), *(f"{row.sqnr_db[head]:.1f}" for head in heads)]
        cells += [f"{row.lost[key] * factor:+.2f}" if key in row.lost else "–" for key, factor in factors.items()]
        result.add_row(*cells, "–" if row.gain is None else f"{100 * row.gain:+.1f}%")
    return result


def _budget(key: str) -> BudgetItem:
    """What a key of `BlockSensitivity.lost` stands for."""
    return next(item for kind in KINDS.values() for item in kind.budgets if item.name == key.rpartition(".")[2])


def _title(key: str, item: BudgetItem) -> str:
    """Header of a loss: the task where several share a kind, the measure, and the unit of its budget."""
    task, _, _ = key.rpartition(".")
    measure = measure_of(item.measure)
    name = key if measure is None else measure.title.removesuffix(" %").removesuffix(" °")
    return f"{task} {name} {item.unit}".strip()
