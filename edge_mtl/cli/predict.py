"""`edge-mtl predict`: the frames of a source through an engine; files, an annotated bag, the viewer or JSON out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    BackendOption,
    Bf16Option,
    BitsOption,
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
    parse_min_score,
    parse_names,
    the_precision,
)
from edge_mtl.cli.predict_loop import BAG, PredictOptions, run
from edge_mtl.cli.terminal import Terminal

__all__ = ["STORAGES", "check_places", "parse_files", "predict"]

STORAGES = ("same", "sqlite3", "mcap")
_RRD = ".rrd"

IntrinsicsOption = Annotated[
    str | None,
    typer.Option("--intrinsics", metavar="FX,FY,CX,CY", help="The camera in pixels of the frame: makes depth metric."),
]
PointsOption = Annotated[
    int, typer.Option("--points", metavar="N", min=0, max=64, help="In the viewer every N-th pixel is a point; 0 for none.")
]
TasksOption = Annotated[
    str | None,
    typer.Option("--tasks", metavar="LIST", help="Tasks to predict, with commas between; default: all of the bundle."),
]
StabilityOption = Annotated[bool, typer.Option("--stability", help="Smooth the maps where the image stands still.")]
ConnectOption = Annotated[
    str | None, typer.Option("--connect", metavar="URL", help="Show in a viewer elsewhere: rerun+http://HOST:9876/proxy.")
]
DepthScaleOption = Annotated[
    str | None,
    typer.Option(
        "--depth-scale",
        metavar="NUMBER|FILE",
        help="Multiply distances: a factor, or a file of edge-mtl scale.",
        show_default=False,
    ),
]
MinScoreOption = Annotated[
    str | None,
    typer.Option(
        "--min-score",
        metavar="NUMBER|LIST",
        help="Only boxes with at least this score: 0.5, or by task, objects=0.5; not below the bundle's own.",
        show_default=False,
    ),
]
CameraInfoOption = Annotated[
    str | None, typer.Option("--camera-info", metavar="NAME", help="Of a bag's camera; default: beside the images.")
]
RectifiedOption = Annotated[bool, typer.Option("--rectified", help="The bag's images are rectified: the camera is P, not K.")]
StorageOption = Annotated[
    str, typer.Option("--storage", metavar="NAME", help="Of the bag that is written: sqlite3, mcap, or same as the source.")
]


@app.command(
    short_help="Predict on an image, folder, video, camera or ROS bag.",
    epilog=block(
        "Examples:",
        "edge-mtl predict room.jpg --files panel,png,npz",
        "edge-mtl predict images/ --out results --intrinsics 525,525,319.5,239.5",
        "edge-mtl predict tour.mp4 --files overlay",
        "edge-mtl predict camera:0 --json | jq .depth_median_m",
        "edge-mtl predict images/ --tasks depth --files npz",
        "edge-mtl predict images/ --tasks objects --min-score 0.5 --files json",
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
        typer.Option("--files", metavar="LIST", help="Any of overlay, panel, png, npz, json with commas between, or bag."),
    ] = None,
    view: Annotated[bool, typer.Option("--view", help="Open the viewer of rerun.io.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Record to FILE.rrd for the viewer, and open none.")
    ] = None,
    connect: ConnectOption = None,
    points: PointsOption = 2,
    intrinsics: IntrinsicsOption = None,
    tasks: TasksOption = None,
    depth_scale: DepthScaleOption = None,
    min_score: MinScoreOption = None,
    topic: TopicOption = None,
    camera_info: CameraInfoOption = None,
    rectified: RectifiedOption = False,
    bits: BitsOption = 16,
    storage: StorageOption = "same",
    stability: StabilityOption = False,
    limit: LimitOption = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Predict on the frames of a source, and save, show or print what was predicted.

    \b
    overlay  classes in colour over the frame, and boxes and the frame's class over them
    panel    the frame and all its results in one image (default)
    png      labels (palette), depth (16-bit millimetres, and in colour), normals; boxes and classes on the frame
    npz      the exact arrays, and the camera they are in
    json     what --json prints, a file a frame
    bag      of a ROS 2 bag (default): the recording with the maps added under /edge_mtl

    Of a video or a camera, overlay and panel are videos, of one frame rate. A camera runs until Ctrl-C; what was recorded
    until then is kept. Images of a folder or bag that cannot be read are named and left out. A bag needs no ROS, and depth is
    in metres where it has camera_info. --view, --save FILE.rrd and --connect show maps, points coloured by class and a plot
    of latency; they need the extra "view". --save opens nothing, so it works without a screen.
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
            tasks=None if tasks is None else parse_names("--tasks", tasks),
            depth_scale=depth_scale,
            min_score=None if min_score is None else parse_min_score("--min-score", min_score),
            topic=topic,
            camera_info=camera_info,
            rectified=rectified,
            bits=bits,
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
