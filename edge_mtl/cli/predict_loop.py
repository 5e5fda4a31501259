"""The loop of `edge-mtl predict`: frames of a source through an engine, and what becomes of each prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, cast

from edge_mtl.cli.arguments import EngineOptions
from edge_mtl.cli.terminal import Step, Terminal, one_line, table

if TYPE_CHECKING:
    from edge_mtl.engine import Engine, EngineInfo
    from edge_mtl.outputs.result_files import FileKind
    from edge_mtl.prediction import Prediction
    from edge_mtl.sources.frame_source import Frame, FrameSource
    from edge_mtl.tasks import Specs
    from edge_mtl.tasks.asked import MinScore

__all__ = ["BAG", "RECTIFY", "PredictOptions", "run"]

BAG = "bag"
"""The kind of file that is a recorded bag with the maps added."""
RECTIFY = "Record rectified images (image_proc), name their topic with --topic, and give --rectified."
"""What to do about a lens that distorts, once the recording is there."""

_SKIPPING = ("folder", "bag")
"""Kinds of sources that go on where a frame cannot be predicted on."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What is read, and what becomes of the predictions.

    Attributes:
        out: folder of the results; None writes none. With "bag" in `files` it is the folder of the new bag.
        files: kinds of `edge_mtl.outputs.result_files`, or BAG alone.
        view: show in a viewer: on this screen, or at `connect`; with `save` a recording is made and nothing opened.
        points: every n-th pixel in each direction becomes a point in the viewer, 0 for none.
        intrinsics: (fx, fy, cx, cy) of the frames, in place of the camera that the source knows.
        tasks: those that are predicted; None for all of the bundle.
        depth_scale, min_score: see `Engine`.
        topic, camera_info, rectified, bits: see `edge_mtl.sources.open_source.open_source`.
        storage: of a bag that is written: see `edge_mtl.outputs.annotated_bag`.
        stability: smooth the maps where the image stands still.
        limit: frames at most.
        summary: one JSON object for all frames, in place of one a frame.
    """

    out: Path | None = None
    files: tuple[str, ...] = ("panel",)
    view: bool = False
    save: Path | None = None
    connect: str | None = None
    points: int = 2
    intrinsics: tuple[float, float, float, float] | None = None
    tasks: tuple[str, ...] | None = None
    depth_scale: str | None = None
    min_score: MinScore | None = None
    topic: str | None = None
    camera_info: str | None = None
    rectified: bool = False
    bits: int = 16
    storage: str = "same"
    stability: bool = False
    limit: int | None = None
    summary: bool = False

    @property
    def shown(self) -> bool:
        """Whether the viewer of rerun.io, or a recording for it, is asked for."""
        return self.view or self.save is not None or self.connect is not None


@dataclass(slots=True)
class _Tally:
    """What happened so far; `milliseconds` has the stages of each frame, `lenses` how many had each fault of their lens."""

    milliseconds: list[dict[str, float]] = field(default_factory=list)
    skipped: int = 0
    unscaled: int = 0
    lenses: Counter[str] = field(default_factory=Counter)
    files: list[Path] = field(default_factory=list)

    def add(self, frame: Frame, prediction: Prediction, written: list[Path], *, lens: bool) -> None:
        """Count a frame that was predicted on; with `lens` also what is wrong with its lens."""
        self.files += written
        self.milliseconds.append(prediction.timing.milliseconds())
        self.unscaled += prediction.intrinsics_assumed
        self.lenses.update([frame.lens] if frame.lens and lens else [])

    def skip(self, terminal: Terminal, reason: str) -> None:
        """Name a frame that is left out, and count it."""
        self.skipped += 1
        terminal.note(f"skipped: {one_line(reason)}")


def run(terminal: Terminal, text: str, engine_options: EngineOptions, options: PredictOptions) -> None:
    """Predict on every frame of the source that `text` names.

    Raises:
        FrameError: the source is not there, or none of its frames can be used.
        typer.Exit: all is written, of a recording that ended early.
        BackendUnavailable: a package for bags or the viewer is not installed, or there is no screen.
        EdgeMtlError: as bundle and engine say.
        OSError: results cannot be written.
    """
    from edge_mtl.bundle import find
    from edge_mtl.engine import Engine
    from edge_mtl.errors import FrameError
    from edge_mtl.image.memory import out_of_memory
    from edge_mtl.outputs.annotated_bag import check_recording
    from edge_mtl.outputs.result_files import describe
    from edge_mtl.sources.open_source import open_source
    from edge_mtl.tasks import kind_of
    from edge_mtl.tasks.asked import asked_of

    if BAG in options.files and options.out is not None:
        check_recording(Path(text), options.out)
    source = open_source(
        text, topic=options.topic, camera_info=options.camera_info, rectified=options.rectified, bits=options.bits
    )
    terminal.note_left_out(source.left_out)
    bundle = find(engine_options.bundle)
    tasks = asked_of(bundle.manifest.tasks, options.tasks)
    tally = _Tally()
    with ExitStack() as stack:
        engine = stack.enter_context(
            Engine(
                bundle,
                backend=engine_options.backend,
                precision=engine_options.precision,
                device=engine_options.device,
                threads=engine_options.threads,
                depth_scale=options.depth_scale,
                min_score=options.min_score,
            )
        )
        source, writers, finish = _outputs(stack, source, Path(text), tasks, options, terminal)
        step = stack.enter_context(terminal.steps())
        try:
            for frame, prediction in _predictions(engine, source, options, tally, step, terminal):
                try:
                    with out_of_memory(f"{frame.name} with its results", "Reduce the frame, or ask for fewer results."):
                        written = [path for write in writers for path in write(frame, prediction)]
                except FrameError as exc:
                    if source.kind not in _SKIPPING:
                        raise
                    tally.skip(terminal, str(exc))
                else:
                    tally.add(frame, prediction, written, lens=options.intrinsics is None)
                    if terminal.json_output and not options.summary:
                        terminal.record(describe(frame, prediction) | {"files": [str(path) for path in written]})
                finally:
                    del frame, prediction  # else the maps of a large frame stay while the next one is decoded
        except KeyboardInterrupt:  # ends a camera, and what was recorded until then stays
            if source.kind != "camera":
                raise
            terminal.note("stopped.")
        if not tally.milliseconds:
            raise FrameError(f"{text}: no frame could be used.")
        tally.files += finish()
        info = engine.info
    _report(terminal, source, options, tally, info)
    if tally.unscaled and any(kind_of(spec).metric_scale for spec in tasks.values()):
        terminal.note(_unscaled(source, tally))
    for fault, count in tally.lenses.items():
        terminal.note(f"{count} frames are taken for a pinhole camera's: {fault}. {RECTIFY}")
    terminal.finish()


_Write = Callable[["Frame", "Prediction"], list[Path]]


def _outputs(
    stack: ExitStack, source: FrameSource, place: Path, tasks: Specs, options: PredictOptions, terminal: Terminal
) -> tuple[FrameSource, list[_Write], Callable[[], list[Path]]]:
    """The source to read, what each prediction is given to, and what completes files of all frames."""
    from edge_mtl.outputs.annotated_bag import annotated_bag
    from edge_mtl.outputs.result_files import ResultWriter
    from edge_mtl.outputs.viewer import live, remote, saved

    writers: list[_Write] = []
    finish: Callable[[], list[Path]] = list
    if options.shown:
        if options.save is not None:
            stage = stack.enter_context(saved(options.save, tasks=tasks, step=options.points))
        elif options.connect is not None:
            stage = stack.enter_context(remote(options.connect, tasks=tasks, step=options.points))
        else:
            stage = stack.enter_context(live(tasks=tasks, step=options.points))
        writers.append(stage.write)
    if options.out is not None and BAG in options.files:
        recorded = annotated_bag(place, options.out, tasks=tasks, storage=options.storage, on_remark=terminal.note)
        bag = stack.enter_context(recorded)
        source = bag.copying(source)
        writers.append(bag.write)
    elif options.out is not None:
        kinds = cast("tuple[FileKind, ...]", options.files)
        rate = source.frame_rate if source.kind in ("video", "camera") else None
        files = stack.enter_context(ResultWriter(options.out, kinds=kinds, name=source.stem, frame_rate=rate))
        writers.append(files.write)
        finish = files.close
    return source, writers, finish


def _predictions(
    engine: Engine, source: FrameSource, options: PredictOptions, tally: _Tally, step: Step, terminal: Terminal
) -> Iterator[tuple[Frame, Prediction]]:
    """Frames with what was predicted on them; of a folder or bag, those that cannot be used are named and left out."""
    from edge_mtl.errors import FrameError
    from edge_mtl.tasks.stability import TemporalFilter

    def remark(reason: str) -> None:
        terminal.note(f"skipped: {one_line(reason)}")

    smooth = TemporalFilter() if options.stability else None
    total = source.count if options.limit is None else min(source.count or options.limit, options.limit)
    every = source.frames(
        limit=options.limit,
        on_skip=partial(tally.skip, terminal),
        on_remark=remark,
        on_oddity=terminal.warn,
        on_end=terminal.early_end,
    )
    done = 0
    with closing(every) as frames:
        for frame in frames:  # enumerate() would hold the frame before
            step("predicting", done, total or 0)
            done += 1
            try:
                camera = options.intrinsics or frame.intrinsics
                prediction = engine.predict(frame.pixels, intrinsics=camera, tasks=options.tasks)
            except FrameError as exc:
                if source.kind not in _SKIPPING:
                    raise
                tally.skip(terminal, f"{frame.name}: {exc}")
                continue
            if smooth is not None:
                prediction = smooth(frame.pixels, prediction)
            yield frame, prediction
            del frame, prediction


def _report(terminal: Terminal, source: FrameSource, options: PredictOptions, tally: _Tally, info: EngineInfo) -> None:
    medians = {stage: median(each[stage] for each in tally.milliseconds) for stage in tally.milliseconds[0]}
    frames = len(tally.milliseconds)
    bag = options.out if BAG in options.files else None
    if terminal.json_output and options.summary:
        terminal.record(
            {
                "frames": frames,
                "skipped": tally.skipped,
                "ms_per_frame": round(medians["total"], 3),
                "frames_with_metric_depth": frames - tally.unscaled,
                "saved": options.save,
                "bag": bag,
                "topic": source.topic,
                "camera_info": source.camera_topic,
            }
        )
    skipped = f" ({tally.skipped} skipped)" if tally.skipped else ""
    result = table("", "frames", "engine", "ms per frame", "prepare", "infer", "postprocess", right=("ms per frame",))
    stages = [f"{medians[stage]:.2f}" for stage in ("total", "prepare", "infer", "postprocess")]
    result.add_row(f"{frames}{skipped}", f"{info.precision} on {info.backend}", *stages)
    terminal.show(result, f"Engine: {info.reason}")
    if bag is not None:
        terminal.show(f"Wrote {bag}: the bag with the maps under /edge_mtl")
    elif options.out is not None:
        count = len(tally.files)
        terminal.show(f"Saved {tally.files[0]}" if count == 1 else f"Saved {count} files in {options.out}")
    if options.save is not None:
        terminal.show(f"Saved {options.save}. Open it with: rerun {options.save}")


def _unscaled(source: FrameSource, tally: _Tally) -> str:
    if source.kind == "bag":
        return f"{tally.unscaled} frames had no camera_info that fits: their depth is right only up to a factor."
    return "Depth is right up to a factor only: give the camera with --intrinsics fx,fy,cx,cy for metres."
