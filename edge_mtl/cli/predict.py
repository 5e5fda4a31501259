"""`edge-mtl predict`: the frames of a source through an engine; files, an annotated bag, the viewer or JSON out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    BackendOption,
    Bf16Option,
    BundleOption,
    DeviceOption,
    EngineOptions,
    Fp16Option,
    Fp32Option,
    Int8Option,
    JsonOption,
    LimitOption,
    PrecisionOption,
    QuietOption,
    ThreadsOption,
    TopicOption,
    UsageError,
    block,
    check_choice,
    parse_intrinsics,
    the_precision,
)
from edge_mtl.cli.terminal import Step, Terminal, one_line, table

if TYPE_CHECKING:
    from edge_mtl.engine import Engine, EngineInfo
    from edge_mtl.outputs.result_files import FileKind
    from edge_mtl.prediction import Prediction
    from edge_mtl.sources.frame_source import Frame, FrameSource

__all__ = ["BAG", "STORAGES", "PredictOptions", "check_places", "describe", "parse_files", "predict", "run"]

BAG = "bag"
"""The kind of file that is a recorded bag with the maps added."""
STORAGES = ("same", "sqlite3", "mcap")
_RRD = ".rrd"

IntrinsicsOption = Annotated[
    str | None,
    typer.Option("--intrinsics", metavar="FX,FY,CX,CY", help="The camera in pixels of the frame: makes depth metric."),
]
PointsOption = Annotated[
    int, typer.Option("--points", metavar="N", min=0, max=64, help="In the viewer every N-th pixel is a point; 0 for none.")
]
StabilityOption = Annotated[bool, typer.Option("--stability", help="Smooth the maps where the image stands still.")]
ConnectOption = Annotated[
    str | None, typer.Option("--connect", metavar="URL", help="Show in a viewer elsewhere: rerun+http://HOST:9876/proxy.")
]
CameraInfoOption = Annotated[
    str | None, typer.Option("--camera-info", metavar="NAME", help="Of a bag's camera; default: beside the images.")
]
RectifiedOption = Annotated[bool, typer.Option("--rectified", help="The bag's images are rectified: the camera is P, not K.")]
StorageOption = Annotated[
    str, typer.Option("--storage", metavar="NAME", help="Of the bag that is written: sqlite3, mcap, or same as the source.")
]


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What is read, and what becomes of the predictions.

    Attributes:
        out: folder of the results; None writes none. With "bag" in `files` it is the folder of the new bag.
        files: kinds of `edge_mtl.outputs.result_files`, or BAG alone.
        view: show in a viewer: on this screen, or at `connect`; with `save` a recording is made and nothing opened.
        points: every n-th pixel in each direction becomes a point in the viewer, 0 for none.
        intrinsics: (fx, fy, cx, cy) of the frames, in place of the camera that the source knows.
        topic, camera_info, rectified: see `edge_mtl.sources.open_source.open_source`.
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
    topic: str | None = None
    camera_info: str | None = None
    rectified: bool = False
    storage: str = "same"
    stability: bool = False
    limit: int | None = None
    summary: bool = False

    @property
    def shown(self) -> bool:
        """Whether the viewer of rerun.io, or a recording for it, is asked for."""
        return self.view or self.save is not None or self.connect is not None


@app.command(
    short_help="Predict on an image, folder, video, camera or ROS bag.",
    epilog=block(
        "Examples:",
        "edge-mtl predict room.jpg --files panel,png,npz",
        "edge-mtl predict images/ --out results --intrinsics 525,525,319.5,239.5",
        "edge-mtl predict tour.mp4 --files overlay",
        "edge-mtl predict camera:0 --json | jq .depth_median_m",
        "edge-mtl predict camera:0 --view",
        "edge-mtl predict tour.mp4 --save tour.rrd",
        "edge-mtl predict tour-bag --topic /camera/color/image_raw --out tour-maps --stability",
    ),
)
def predict(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="An image, a folder of images, a video, camera:N, or a ROS bag.")
    ],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    int8: Int8Option = False,
    fp32: Fp32Option = False,
    fp16: Fp16Option = False,
    bf16: Bf16Option = False,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder for results; default: out, of a bag BAG-maps; none with --json or a viewer."
        ),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option("--files", metavar="LIST", help="Any of overlay, panel, png, npz with commas between, or bag."),
    ] = None,
    view: Annotated[bool, typer.Option("--view", help="Open the viewer of rerun.io.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Record to FILE.rrd for the viewer, and open none.")
    ] = None,
    connect: ConnectOption = None,
    points: PointsOption = 2,
    intrinsics: IntrinsicsOption = None,
    topic: TopicOption = None,
    camera_info: CameraInfoOption = None,
    rectified: RectifiedOption = False,
    storage: StorageOption = "same",
    stability: StabilityOption = False,
    limit: LimitOption = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Predict on the frames of a source, and save, show or print what was predicted.

    \b
    overlay  classes in colour over the frame
    panel    the frame and all its maps in one image (default)
    png      labels (palette), depth (16-bit millimetres, and in colour), normals
    npz      the exact arrays, and the camera they are in
    bag      of a ROS 2 bag (default): the recording with the maps added under /edge_mtl

    Of a video or a camera, overlay and panel are videos. A camera runs until Ctrl-C; what was recorded until then is
    kept. Images of a folder or bag that cannot be read are named and left out. A bag needs no ROS, and depth is in metres
    where it has camera_info. --view, --save FILE.rrd and --connect show maps, points coloured by class and a plot of latency;
    they need the extra "view". --save opens nothing, so it works without a screen.
    """
    check_choice("--storage", storage, STORAGES)
    check_places(save, connect)
    camera = parse_intrinsics(intrinsics)
    chosen = the_precision(precision, int8=int8, fp32=fp32, fp16=fp16, bf16=bf16)
    from edge_mtl.outputs.annotated_bag import default_target
    from edge_mtl.sources.bags import is_bag

    is_recording = is_bag(Path(source))
    kinds = parse_files("--files", files or (BAG if is_recording else "panel"))
    writes = out is not None or files is not None or not (json or view or save is not None or connect is not None)
    default = default_target(Path(source)) if is_recording and kinds == (BAG,) else Path("out")
    run(
        Terminal(json_output=json, quiet=quiet),
        source,
        EngineOptions(bundle, backend, chosen, threads, device),
        PredictOptions(
            out=(out or default) if writes else None,
            files=kinds,
            view=view,
            save=save,
            connect=connect,
            points=points,
            intrinsics=camera,
            topic=topic,
            camera_info=camera_info,
            rectified=rectified,
            storage=storage,
            stability=stability,
            limit=limit,
        ),
    )


def check_places(save: Path | None, connect: str | None) -> None:
    """Raises UsageError where predictions can be neither recorded nor shown as asked for."""
    if save is not None and connect is not None:
        raise UsageError("--save and --connect exclude each other: record, or show.")
    if save is not None and save.suffix.lower() != _RRD:
        raise UsageError(f"--save expects a file name that ends in .rrd; found {str(save)!r}. Kinds of results: --files LIST.")


def parse_files(option: str, text: str) -> tuple[str, ...]:
    """The kinds of files in a list with commas. Raises UsageError naming what is not one."""
    from edge_mtl.outputs.result_files import FILE_KINDS

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names or any(name not in (*FILE_KINDS, BAG) for name in names):
        raise UsageError(f"{option} expects any of {', '.join((*FILE_KINDS, BAG))}, with commas between; found {text!r}.")
    if BAG in names and len(names) > 1:
        raise UsageError(f"{option}: {BAG} writes a folder of its own, so it is given alone; found {text!r}.")
    return names


@dataclass(slots=True)
class _Tally:
    """What happened so far; `milliseconds` has the stages of each frame."""

    milliseconds: list[dict[str, float]] = field(default_factory=list)
    skipped: int = 0
    unscaled: int = 0
    files: list[Path] = field(default_factory=list)


def run(terminal: Terminal, text: str, engine_options: EngineOptions, options: PredictOptions) -> None:
    """Predict on every frame of the source that `text` names.

    Raises:
        FrameError: the source is not there, or none of its frames can be used.
        BackendUnavailable: a package for bags or the viewer is not installed, or there is no screen.
        EdgeMtlError: as bundle and engine say.
        OSError: results cannot be written.
    """
    from edge_mtl.bundle import find
    from edge_mtl.engine import Engine
    from edge_mtl.errors import FrameError
    from edge_mtl.outputs.annotated_bag import check_recording
    from edge_mtl.sources.open_source import open_source

    if BAG in options.files and options.out is not None:
        check_recording(Path(text), options.out)
    source = open_source(text, topic=options.topic, camera_info=options.camera_info, rectified=options.rectified)
    bundle = find(engine_options.bundle)
    tally = _Tally()
    with ExitStack() as stack:
        engine = stack.enter_context(
            Engine(
                bundle,
                backend=engine_options.backend,
                precision=engine_options.precision,
                device=engine_options.device,
                threads=engine_options.threads,
            )
        )
        source, writers, finish = _outputs(stack, source, text, options, terminal)
        step = stack.enter_context(terminal.steps())
        try:
            for frame, prediction in _predictions(engine, source, options, tally, step, terminal):
                written = [path for write in writers for path in write(frame, prediction)]
                tally.files += written
                tally.milliseconds.append(_milliseconds(prediction))
                tally.unscaled += prediction.intrinsics_assumed
                if terminal.json_output and not options.summary:
                    terminal.record(describe(frame, prediction) | {"files": [str(path) for path in written]})
        except KeyboardInterrupt:  # ends a camera, and what was recorded until then stays
            if source.kind != "camera":
                raise
            terminal.note("stopped.")
        if not tally.milliseconds:
            raise FrameError(f"{text}: no frame could be used.")
        tally.files += finish()
        info, has_depth = engine.info, "depth" in engine.info.tasks
    _report(terminal, source, options, tally, info)
    if tally.unscaled and has_depth:
        terminal.note(_unscaled(source, tally))


def describe(frame: Frame, prediction: Prediction) -> dict[str, Any]:
    """What `--json` says about a frame: shares of the classes, median depth, timing in milliseconds."""
    import numpy as np

    from edge_mtl.tasks import VOID

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


_Write = Callable[["Frame", "Prediction"], list[Path]]


def _outputs(
    stack: ExitStack, source: FrameSource, text: str, options: PredictOptions, terminal: Terminal
) -> tuple[FrameSource, list[_Write], Callable[[], list[Path]]]:
    """The source to read, what each prediction is given to, and what completes the files that are made of all frames."""
    from edge_mtl.outputs.annotated_bag import annotated_bag
    from edge_mtl.outputs.result_files import ResultWriter
    from edge_mtl.outputs.viewer import live, remote, saved

    writers: list[_Write] = []
    finish: Callable[[], list[Path]] = list
    if options.shown:
        if options.save is not None:
            stage = stack.enter_context(saved(options.save, step=options.points))
        elif options.connect is not None:
            stage = stack.enter_context(remote(options.connect, step=options.points))
        else:
            stage = stack.enter_context(live(step=options.points))
        writers.append(stage.write)
    if options.out is not None and BAG in options.files:
        bag = stack.enter_context(annotated_bag(Path(text), options.out, storage=options.storage, on_remark=terminal.note))
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

    def skip(reason: str) -> None:
        tally.skipped += 1
        remark(reason)

    def remark(reason: str) -> None:
        terminal.note(f"skipped: {one_line(reason)}")

    smooth = TemporalFilter() if options.stability else None
    total = source.count if options.limit is None else min(source.count or options.limit, options.limit)
    with closing(source.frames(limit=options.limit, on_skip=skip, on_remark=remark)) as frames:
        for done, frame in enumerate(frames):
            step("predicting", done, total or 0)
            try:
                prediction = engine.predict(frame.pixels, intrinsics=options.intrinsics or frame.intrinsics)
            except FrameError as exc:
                if source.kind not in ("folder", "bag"):
                    raise
                skip(f"{frame.name}: {exc}")
                continue
            yield frame, prediction if smooth is None else smooth(frame.pixels, prediction)


def _milliseconds(prediction: Prediction) -> dict[str, float]:
    timing = prediction.timing
    stages = {"prepare": timing.prepare, "infer": timing.infer, "postprocess": timing.postprocess, "total": timing.total}
    return {name: round(seconds * 1000.0, 3) for name, seconds in stages.items()}


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
