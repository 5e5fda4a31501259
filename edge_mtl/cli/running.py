"""Commands that predict, and that say what is here.

Each imports what it needs when it runs, so that `edge-mtl --help` starts no runtime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    BackendOption,
    BundleArgument,
    BundleOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    TopicOption,
    UsageError,
    block,
    check_choice,
)
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import Terminal

__all__ = ["demo", "doctor", "infer", "inspect", "run_bag", "view"]


@app.command(
    short_help="Predict on images, a folder, a video or a camera.",
    epilog=block(
        "Examples:",
        "edge-mtl infer room.jpg --save panel,png,npz",
        "edge-mtl infer images/ --out results --intrinsics 525,525,319.5,239.5",
        "edge-mtl infer tour.mp4 --save overlay",
        "edge-mtl infer camera:0 --json | jq .depth_median_m",
    ),
)
def infer(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="An image, a folder of images, a video, or camera:N.")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for results; default: out, with --json none are saved.")
    ] = None,
    save: Annotated[
        str, typer.Option("--save", metavar="LIST", help="Any of overlay, panel, png, npz, with commas between.")
    ] = "panel",
    intrinsics: Annotated[
        str | None,
        typer.Option("--intrinsics", metavar="FX,FY,CX,CY", help="The camera in pixels of the frame: makes depth metric."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Stop after this many frames.")] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Predict on images, a folder, a video or a camera, and save what was predicted.

    \b
    overlay  classes in colour over the frame
    panel    the frame and all its maps in one image
    png      labels (palette), depth (16-bit millimetres, and in colour), normals
    npz      the exact arrays, and the camera they are in

    Of a video or a camera, overlay and panel are videos. A camera runs until Ctrl-C; what was recorded until then is
    kept. Images of a folder that cannot be read are named and left out.
    """
    from edge_mtl.commands.infer import parse_intrinsics, parse_kinds, run

    try:
        kinds, camera = parse_kinds(save), parse_intrinsics(intrinsics)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    folder = out if out is not None or json else Path("out")
    engine = EngineOptions(bundle, backend, precision, threads, device)
    run(Terminal(json_output=json), source, engine, out=folder, kinds=kinds, intrinsics=camera, limit=limit)


@app.command(
    "run-bag",
    short_help="Predict on a recorded ROS 2 bag.",
    epilog=block(
        "Examples:",
        "edge-mtl run-bag tour",
        "edge-mtl run-bag tour --topic /camera/color/image_raw --out tour-maps --stability",
    ),
)
def run_bag(
    bag: Annotated[Path, typer.Argument(metavar="BAG", help="Folder of a ROS 2 bag, sqlite3 or mcap.")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The bag to write; default: BAG-maps.")] = None,
    topic: TopicOption = None,
    camera_info: Annotated[
        str | None, typer.Option("--camera-info", metavar="NAME", help="Of the camera; default: beside the images.")
    ] = None,
    rectified: Annotated[bool, typer.Option("--rectified", help="Rectified images: the camera is P, not K.")] = False,
    storage: Annotated[str, typer.Option("--storage", metavar="NAME", help="sqlite3, mcap, or same as the bag.")] = "same",
    stability: Annotated[bool, typer.Option("--stability", help="Smooth the maps where the image stands still.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Stop after this many images.")] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Predict on every image of a recorded ROS 2 bag and write a new bag with the maps added. Needs no ROS.

    The new bag has all that was recorded, and /edge_mtl/segmentation, depth and normals with the stamps of their images.
    Depth is in metres where the bag has camera_info.
    """
    check_choice("--storage", storage, ("same", "sqlite3", "mcap"))
    from edge_mtl.commands.run_bag import run

    run(
        Terminal(json_output=json),
        bag,
        EngineOptions(bundle, backend, precision, threads, device),
        out=out,
        topic=topic,
        camera_topic=camera_info,
        rectified=rectified,
        storage=storage,
        stability=stability,
        limit=limit,
    )


@app.command(
    short_help="Watch maps, points and latency live, or record them.",
    epilog=block(
        "Examples:",
        "edge-mtl view camera:0",
        "edge-mtl view tour.mp4 --save tour.rrd",
        "edge-mtl view tour-bag --topic /camera/color/image_raw --connect rerun+http://laptop:9876/proxy",
    ),
)
def view(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="An image, a folder of images, a video, camera:N, or a ROS bag.")
    ],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Record to FILE.rrd and open no viewer.")] = None,
    connect: Annotated[
        str | None, typer.Option("--connect", metavar="URL", help="Show in a viewer elsewhere: rerun+http://HOST:9876/proxy.")
    ] = None,
    intrinsics: Annotated[
        str | None,
        typer.Option("--intrinsics", metavar="FX,FY,CX,CY", help="The camera in pixels of the frame: makes depth metric."),
    ] = None,
    topic: TopicOption = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Stop after this many frames.")] = None,
    points: Annotated[
        int, typer.Option("--points", metavar="N", min=0, max=64, help="Every N-th pixel becomes a point; 0 for none.")
    ] = 2,
    stability: Annotated[bool, typer.Option("--stability", help="Smooth the maps where the image stands still.")] = False,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Watch what an engine predicts in the viewer of rerun.io: the maps, the points coloured by class, a plot of latency.

    Needs the extra "view". A camera runs until Ctrl-C. With --save nothing is opened, so it works without a screen.
    """
    if save is not None and connect is not None:
        raise UsageError("--save and --connect exclude each other: record, or show.")
    if save is not None and save.suffix.lower() != ".rrd":
        raise UsageError(f"--save expects a file name that ends in .rrd; found {str(save)!r}.")
    from edge_mtl.commands.infer import parse_intrinsics
    from edge_mtl.commands.view import ViewOptions, run

    try:
        camera = parse_intrinsics(intrinsics)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    wanted = ViewOptions(save, connect, camera, topic, limit, points, stability)
    run(Terminal(json_output=json), source, EngineOptions(bundle, backend, precision, threads, device), wanted)


@app.command(
    short_help="Show and verify what is in a bundle.",
    epilog=block("Examples:", "edge-mtl inspect", "edge-mtl inspect bundles/rooms-b0 --json"),
)
def inspect(bundle: BundleArgument = None, json: JsonOption = False) -> None:
    """Show what is in a bundle, after checking every file against its hash, and its engines on this device."""
    from edge_mtl.commands.inspect import run

    run(Terminal(json_output=json), bundle)


@app.command(
    short_help="Say what can run here, and what is missing.",
    epilog=block("Examples:", "edge-mtl doctor", "edge-mtl doctor --json"),
)
def doctor(json: JsonOption = False) -> None:
    """Say what can run here, what cannot and why, and what to install.

    Succeeds where at least one backend is usable; else the exit code is 5.
    """
    from edge_mtl.commands.doctor import run

    run(Terminal(json_output=json))


@app.command(
    short_help="From the demo bundle to an image and a benchmark.",
    epilog=block("Examples:", "edge-mtl demo", "edge-mtl demo --bundle bundles/rooms-b2 --out b2.png"),
)
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The image to write.")] = Path("out/demo.png"),
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="DIR", help="Folder of the bundle; default: the demo bundle.", show_default=False),
    ] = None,
) -> None:
    """From the demo bundle to an image and a benchmark.

    Builds the INT8 engine if this device has none, predicts on rooms with known answers and on a real photograph, draws
    everything into one image, and times the engines.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out expects a file name that ends in .png; found {str(out)!r}.")
    from edge_mtl.commands.demo import run

    run(Terminal(), bundle, out)
