"""`edge-mtl view`: frames of a source through an engine into the viewer of rerun.io, or into a recording for it.

Knows how the pieces are joined; reading frames, predicting and drawing are done elsewhere.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edge_mtl.bundle import find
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import Step, Terminal, one_line, table
from edge_mtl.engine import Engine
from edge_mtl.errors import FrameError
from edge_mtl.prediction import Prediction
from edge_mtl.sources.timed import TimedFrame, TimedSource, open_timed
from edge_mtl.tasks import DEPTH
from edge_mtl.tasks.stability import TemporalFilter
from edge_mtl.view.stage import Stage
from edge_mtl.view.viewer import live, remote, saved

__all__ = ["ViewOptions", "run"]


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """What is shown, and where.

    Attributes:
        save: a file for the recording; no viewer is opened then.
        connect: address of a viewer elsewhere.
        intrinsics: (fx, fy, cx, cy) of the frames; without them the scale of depth is assumed.
        topic: of a bag's images.
        limit: frames at most.
        step: every step-th pixel in each direction becomes a point, 0 for none.
        stability: smooth the maps where the image stands still.
    """

    save: Path | None = None
    connect: str | None = None
    intrinsics: tuple[float, float, float, float] | None = None
    topic: str | None = None
    limit: int | None = None
    step: int = 2
    stability: bool = False


def run(terminal: Terminal, text: str, options: EngineOptions, wanted: ViewOptions) -> None:
    """Show every frame of the source that `text` names.

    Raises:
        BackendUnavailable: rerun is not installed, or there is no screen.
        FrameError: the source is not there, or none of its frames can be used.
        EdgeMtlError: as bundle and engine say.
        OSError: the recording cannot be written.
    """
    skipped: list[str] = []

    def skip(reason: str) -> None:
        skipped.append(reason)
        terminal.note(f"skipped: {one_line(reason)}")

    bundle = find(options.bundle)
    totals: list[float] = []
    with _place(wanted) as stage:
        source = open_timed(text, topic=wanted.topic, limit=wanted.limit, on_skip=skip)
        with Engine(
            bundle, backend=options.backend, precision=options.precision, device=options.device, threads=options.threads
        ) as engine:
            with terminal.steps() as step, closing(_predictions(engine, source, wanted, step)) as shown:
                try:
                    for index, (frame, prediction) in enumerate(shown):
                        stage.show(index, frame.time_s, frame.name, frame.pixels, prediction)
                        totals.append(prediction.timing.total * 1e3)
                except KeyboardInterrupt:  # ends a camera, and what was shown until then stays
                    if source.kind != "camera":
                        raise
                    terminal.note("stopped.")
            info = engine.info
        if not totals:
            raise FrameError(f"{text}: no frame could be used.")
    result: dict[str, Any] = {"frames": len(totals), "skipped": len(skipped), "ms_per_frame": round(median(totals), 3)}
    result["saved"] = str(wanted.save) if wanted.save is not None else None
    if terminal.json_output:
        terminal.record(result)
    summary = table("", "frames", "engine", "ms per frame", right=("ms per frame",))
    summary.add_row(str(len(totals)), f"{info.precision} on {info.backend}", f"{median(totals):.2f}")
    terminal.show(summary)
    if wanted.save is not None:
        terminal.show(f"Saved {wanted.save}. Open it with: rerun {wanted.save}")
    if wanted.intrinsics is None and DEPTH in info.tasks:
        terminal.note("Depth is right up to a factor only: give the camera with --intrinsics fx,fy,cx,cy for metres.")


def _place(wanted: ViewOptions) -> AbstractContextManager[Stage]:
    if wanted.save is not None:
        return saved(wanted.save, step=wanted.step)
    return live(step=wanted.step) if wanted.connect is None else remote(wanted.connect, step=wanted.step)


def _predictions(
    engine: Engine, source: TimedSource, wanted: ViewOptions, step: Step
) -> Generator[tuple[TimedFrame, Prediction], None, None]:
    """Frames with what was predicted on them."""
    smooth = TemporalFilter() if wanted.stability else None
    for done, frame in enumerate(source.frames):
        step("showing", done, source.count or 0)
        prediction = engine.predict(frame.pixels, intrinsics=wanted.intrinsics)
        yield frame, prediction if smooth is None else smooth(frame.pixels, prediction)
