"""`edge-mtl sensitivity`: which blocks suffer from integers and which gain, as a table, an image and a JSON file.

Knows tables and files; what is measured is in edge_mtl.evaluation.sensitivity.measure.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import cv2
from rich.table import Table

from edge_mtl.backends import qdq_styles, style_of
from edge_mtl.bundle import find
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.commands.out_folder import require_writable
from edge_mtl.commands.terminal import Terminal, table
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import LabelledFrame, labelled_set
from edge_mtl.evaluation.sensitivity.blocks import Level
from edge_mtl.evaluation.sensitivity.figure import draw_sensitivity
from edge_mtl.evaluation.sensitivity.measure import measure_sensitivity
from edge_mtl.evaluation.sensitivity.report import Sensitivity
from edge_mtl.files import write_atomic
from edge_mtl.quantization.learned import int8_recipe
from edge_mtl.quantization.recipes import load_recipe, recipe_for

__all__ = ["run"]

_STEPS = {
    "calibrate": "running calibration frames",
    "reference": "running FP32",
    "prefix": "remembering FP32 activations",
    "blocks": "quantizing one block at a time",
    "time": "timing blocks, interleaved",
}
_LOST = {"miou": ("mIoU points", 100.0), "rel": ("depth error points", 100.0), "normal": ("normals °", 1.0)}


def run(
    terminal: Terminal,
    path: Path | None,
    *,
    target: str,
    level: str,
    recipe: Path | None,
    calibration: Path | None,
    frames: int,
    rounds: int,
    threads: int | None,
    out: Path,
) -> None:
    """Measure, show, and write `out`/NAME.json and .png.

    Raises:
        BuildError: an unknown target or level; and what `measure_sensitivity` raises.
    """
    for name, found, known in (("target", target, tuple(qdq_styles())), ("level", level, get_args(Level))):
        if found not in known:
            raise BuildError(f"Unknown {name} {found!r}. Choose one of: {', '.join(known)}")
    bundle = find(path)
    if recipe is not None:
        chosen = load_recipe(recipe)
    else:
        chosen = recipe_for(target, load_recipe()) if style_of(target).recipe else int8_recipe(bundle)
    images = load_calibration(
        bundle, calibration, count=chosen.calibration.frames, unreadable_share=chosen.calibration.unreadable_share
    )
    labelled = list(labelled_set(bundle))[:frames] or [LabelledFrame(frame, None, {}) for frame in images.frames[:frames]]
    place = out / f"{bundle.path.resolve().name}-{target}-{level}.json"
    require_writable(out)
    with terminal.steps() as step:
        result = measure_sensitivity(
            bundle,
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
    drawn = _write_image(result, place.with_suffix(".png"))
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
    lost = [name for name in _LOST if found.rows and name in found.rows[0].lost]
    numbers = ("layers", *(f"{head} dB" for head in heads), *(_LOST[name][0] for name in lost), "saved")
    result = table(f"{found.bundle}: the most sensitive first", found.level, *numbers, right=numbers)
    for row in found.ranked():
        cells = [row.name, str(row.layers), *(f"{row.sqnr_db[head]:.1f}" for head in heads)]
        cells += [f"{row.lost[name] * _LOST[name][1]:+.2f}" if name in row.lost else "–" for name in lost]
        result.add_row(*cells, "–" if row.gain is None else f"{100 * row.gain:+.1f}%")
    return result


def _write_image(found: Sensitivity, path: Path) -> Path:
    encoded, payload = cv2.imencode(".png", draw_sensitivity(found)[..., ::-1])
    if not encoded:
        raise BuildError(f"{path} could not be encoded as PNG.")
    write_atomic(path, payload.tobytes())
    return path
