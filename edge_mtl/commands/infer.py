"""`edge-mtl infer`: frames of a source through an engine, results to files and a summary.

Knows how the pieces are joined; reading frames, predicting and writing files are done elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from edge_mtl.bundle import find
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.results import KINDS, Kind, ResultWriter
from edge_mtl.commands.terminal import Step, Terminal, one_line, table
from edge_mtl.engine import Engine, EngineInfo
from edge_mtl.errors import FrameError
from edge_mtl.prediction import Prediction
from edge_mtl.sources.media import Frame, Source, open_source
from edge_mtl.tasks import DEPTH, VOID

__all__ = ["describe", "parse_intrinsics", "parse_kinds", "run"]

Intrinsics = tuple[float, float, float, float]


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """The kinds of files in a list with commas. Raises ValueError naming what is not one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in KINDS]
    if unknown or not names:
        raise ValueError(f"--save expects any of {', '.join(KINDS)}, with commas between; found {text!r}.")
    return tuple(cast(Kind, name) for name in dict.fromkeys(names))


def parse_intrinsics(text: str | None) -> Intrinsics | None:
    """(fx, fy, cx, cy) from four numbers with commas between. Raises ValueError where they make no camera."""
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or not all(map(math.isfinite, values)) or min(values[:2]) <= 0:
        raise ValueError(
            f"--intrinsics expects fx,fy,cx,cy in pixels with fx, fy > 0, such as 525,525,319.5,239.5; found {text!r}."
        )
    return cast(Intrinsics, values)


def run(
    terminal: Terminal,
    text: str,
    options: EngineOptions,
    *,
    out: Path | None,
    kinds: Collection[Kind],
    intrinsics: Intrinsics | None,
    limit: int | None,
) -> None:
    """Predict on every frame of the source that `text` names; write results into `out` unless that is None.

    Raises:
        FrameError: the source is not there, or none of its frames can be used.
        EdgeMtlError: as bundle and engine say.
        OSError: results cannot be written.
    """
    source = open_source(text, limit=limit, on_skip=lambda reason: terminal.note(f"skipped: {one_line(reason)}"))
    bundle = find(options.bundle)
    rate = source.frame_rate if source.kind in ("video", "camera") else None
    totals: list[dict[str, float]] = []
    files: list[Path] = []
    with Engine(
        bundle, backend=options.backend, precision=options.precision, device=options.device, threads=options.threads
    ) as engine:
        with ResultWriter(out or Path(), kinds=kinds, name=source.name, frame_rate=rate) as results:
            with terminal.steps() as step:
                for frame, prediction in _predictions(engine, source, intrinsics, step, terminal):
                    written = results.write(frame, prediction) if out is not None else []
                    files += written
                    totals.append(_milliseconds(prediction))
                    if terminal.json_output:
                        terminal.record(describe(frame, prediction) | {"files": [str(path) for path in written]})
            files += results.close()
        info = engine.info
    if not totals:
        raise FrameError(f"{text}: no frame could be used.")
    _summary(terminal, source, totals, files, out, info)
    if intrinsics is None and DEPTH in info.tasks:
        terminal.note("Depth is right up to a factor only: give the camera with --intrinsics fx,fy,cx,cy for metres.")


def describe(frame: Frame, prediction: Prediction) -> dict[str, Any]:
    """What `--json` says about a frame: shares of the classes, median depth, timing in milliseconds."""
    height, width = frame.pixels.shape[:2]
    result: dict[str, Any] = {"frame": frame.name, "width": width, "height": height}
    if prediction.segmentation is not None:
        counts = np.bincount(prediction.segmentation.ravel(), minlength=VOID + 1).tolist()
        shares = {name: round(counts[index] / prediction.segmentation.size, 6) for index, name in enumerate(prediction.classes)}
        result["classes"] = {name: share for name, share in shares.items() if share > 0}
    if prediction.depth is not None:
        known = prediction.depth[np.isfinite(prediction.depth)]
        result["depth_median_m"] = float(np.median(known)) if known.size else None
        result["depth_known_share"] = known.size / prediction.depth.size
    result["bad_values"] = prediction.bad_values
    result["intrinsics_assumed"] = prediction.intrinsics_assumed
    result["timing_ms"] = _milliseconds(prediction)
    return result


def _predictions(
    engine: Engine, source: Source, intrinsics: Intrinsics | None, step: Step, terminal: Terminal
) -> Iterator[tuple[Frame, Prediction]]:
    """Frames with what was predicted on them; Ctrl-C ends a camera, an image that cannot be used ends nothing."""
    done = 0
    try:
        for frame in source.frames:
            step("predicting", done, source.count or 0)
            try:
                prediction = engine.predict(frame.pixels, intrinsics=intrinsics)
            except FrameError as exc:
                if source.kind != "folder":
                    raise
                source.skipped.append(f"{frame.name}: {exc}")
                terminal.note(f"skipped: {frame.name}: {one_line(str(exc))}")
                continue
            yield frame, prediction
            done += 1
    except KeyboardInterrupt:
        if source.kind != "camera":
            raise
        terminal.note("stopped.")


def _milliseconds(prediction: Prediction) -> dict[str, float]:
    timing = prediction.timing
    stages = {"prepare": timing.prepare, "infer": timing.infer, "postprocess": timing.postprocess, "total": timing.total}
    return {name: round(seconds * 1000.0, 3) for name, seconds in stages.items()}


def _summary(
    terminal: Terminal, source: Source, totals: list[dict[str, float]], files: list[Path], out: Path | None, info: EngineInfo
) -> None:
    medians = {stage: median(total[stage] for total in totals) for stage in totals[0]}
    skipped = f" ({len(source.skipped)} skipped)" if source.skipped else ""
    result = table("", "frames", "engine", "ms per frame", "prepare", "infer", "postprocess", right=("ms per frame",))
    stages = [f"{medians[stage]:.2f}" for stage in ("total", "prepare", "infer", "postprocess")]
    result.add_row(f"{len(totals)}{skipped}", f"{info.precision} on {info.backend}", *stages)
    terminal.show(result, f"Engine: {info.reason}")
    if out is not None:
        terminal.show(f"Saved {files[0]}" if len(files) == 1 else f"Saved {len(files)} files in {out}")
