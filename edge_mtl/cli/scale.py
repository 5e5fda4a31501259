"""`edge-mtl scale`: the factor between true and predicted distances in a new place, from frames where some are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    BackendOption,
    BitsOption,
    BundleOption,
    DeviceOption,
    EveryOption,
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
)
from edge_mtl.cli.predict import CameraInfoOption, IntrinsicsOption, RectifiedOption
from edge_mtl.cli.predict_loop import RECTIFY
from edge_mtl.cli.terminal import Terminal, one_line, table
from edge_mtl.files import require_file_names, write_atomic

if TYPE_CHECKING:
    from edge_mtl.depth_scale import ScaleRecord
    from edge_mtl.metric_scale.estimate import Readings
    from edge_mtl.metric_scale.find import FoundScale, View
    from edge_mtl.metric_scale.readings import Along, KnownPoint, ScanMount
    from edge_mtl.sources.frame_source import Frame, FrameSource

__all__ = ["parse_point", "scale"]

_METHODS = ("--point", "--camera-height", "--depth-files", "--depth-topic", "--scan")


@app.command(
    short_help="Find the factor that makes depth metric in a new place.",
    epilog=block(
        "Examples:",
        "edge-mtl scale hall.jpg --point 320,200=2.35 --point 500,260=1.8 --along z --intrinsics 525,525,319.5,239.5",
        "edge-mtl scale images/ --camera-height 0.85 --camera-pitch 15 --intrinsics 525,525,319.5,239.5 --save front.json",
        "edge-mtl scale images/ --depth-files depth/ --depth-unit 0.001",
        "edge-mtl scale tour-bag --depth-topic /camera/aligned_depth_to_color/image_raw --every 15 --save front.json",
        "edge-mtl scale tour-bag --scan /scan --scan-offset 0.1,0,-0.4,0 --every 15",
        "edge-mtl predict images/ --depth-scale front.json --intrinsics 525,525,319.5,239.5",
    ),
)
def scale(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="An image, a folder of images, a video, or a ROS bag.")],
    bundle: BundleOption = None,
    point: Annotated[
        list[str] | None,
        typer.Option("--point", metavar="[FRAME:]U,V=METRES", help="A known distance at column U, row V; repeat it."),
    ] = None,
    along: Annotated[
        str | None,
        typer.Option("--along", metavar="z|ray", help="With --point: along the optical axis, or straight to the point."),
    ] = None,
    camera_height: Annotated[
        float | None, typer.Option("--camera-height", metavar="METRES", help="Of the camera over a floor that is seen.")
    ] = None,
    camera_pitch: Annotated[
        float | None,
        typer.Option("--camera-pitch", metavar="DEGREES", help="With --camera-height: how far the camera looks down."),
    ] = None,
    depth_files: Annotated[
        Path | None, typer.Option("--depth-files", metavar="DIR", help="NAME.npy (metres) or NAME.png (16 bits) of each image.")
    ] = None,
    depth_unit: Annotated[
        float | None,
        typer.Option("--depth-unit", metavar="METRES", help="One unit of those PNG; default: as the file states, else 0.001."),
    ] = None,
    depth_topic: Annotated[
        str | None,
        typer.Option("--depth-topic", metavar="NAME", help="Of a bag: depth registered to the camera, 16UC1 or 32FC1."),
    ] = None,
    registered: Annotated[
        bool, typer.Option("--registered", help="The depth topic is registered, although its frame has another name.")
    ] = False,
    scan: Annotated[str | None, typer.Option("--scan", metavar="NAME", help="Of a bag: a planar LaserScan.")] = None,
    scan_offset: Annotated[
        str | None,
        typer.Option(
            "--scan-offset",
            metavar="X,Y,Z,YAW[,PITCH]",
            help="The scanner from the camera: metres ahead, left, up; degrees it is turned left, and the camera looks down.",
        ),
    ] = None,
    intrinsics: IntrinsicsOption = None,
    topic: TopicOption = None,
    camera_info: CameraInfoOption = None,
    rectified: RectifiedOption = False,
    every: EveryOption = 1,
    bits: BitsOption = 16,
    limit: LimitOption = None,
    max_spread: Annotated[
        float | None,
        typer.Option(
            "--max-spread", metavar="FACTOR", min=1.0, help="Refuse where half of the ratios span more; default: 1.6."
        ),
    ] = None,
    camera_name: Annotated[str, typer.Option("--camera-name", metavar="NAME", help="Written into the file.")] = "",
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the factor to FILE.json.")] = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the factor between true and predicted distances, from frames in which some are known.

    A network that sees one image knows shapes better than sizes: in a new place all its distances may be off by one factor.
    Any one of --point, --camera-height, --depth-files, --depth-topic and --scan gives readings; the factor is the median over
    frames of true over predicted, with an interval of 95 %. Where the readings do not agree on one factor it is refused. The
    file of --save holds for this bundle's network and for this camera; Engine, predict and the ROS node take it as their
    depth scale.
    """
    camera, given = parse_intrinsics(intrinsics), (point or None, camera_height, depth_files, depth_topic, scan)
    named = [option for option, value in zip(_METHODS, given, strict=True) if value is not None]
    if len(named) != 1:
        raise UsageError(f"scale expects one of {', '.join(_METHODS)}; found {' and '.join(named) or 'none'}.")
    for option, value in (("--camera-height", camera_height), ("--depth-unit", depth_unit)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{option} expects metres above 0; found {value}.")
    if camera_pitch is not None and (camera_height is None or not -45.0 <= camera_pitch <= 89.0):
        raise UsageError(f"--camera-pitch belongs to --camera-height and is -45 to 89 degrees down; found {camera_pitch}.")
    if save is not None and save.suffix.lower() != ".json":
        raise UsageError(f"--save expects a file name that ends in .json; found {str(save)!r}.")
    require_file_names(save)
    points = [parse_point(text) for text in point or ()]
    which = _along(along, points=bool(points))
    mount = _mount(scan_offset, scanning=scan is not None)
    from edge_mtl.bundle import find
    from edge_mtl.engine import Engine
    from edge_mtl.metric_scale.estimate import MAX_SPREAD
    from edge_mtl.metric_scale.find import find_scale, record_of
    from edge_mtl.sources.open_source import open_source

    terminal = Terminal(json_output=json, quiet=quiet)
    opened = open_source(source, topic=topic, camera_info=camera_info, rectified=rectified, every=every, bits=bits)
    terminal.note_left_out(opened.left_out)
    if opened.kind == "camera" and limit is None:
        raise UsageError("a camera has no end: say how many frames with --limit N.")

    def skip(reason: str) -> None:
        terminal.note(f"skipped: {one_line(reason)}")

    walk = partial(opened.frames, limit=limit, on_skip=skip, on_oddity=terminal.warn, on_end=terminal.early_end)
    if points:
        method = _known_points(opened, points, which, terminal)
    elif camera_height is not None:
        if camera_pitch is None:
            terminal.note("the floor's tilt is as predicted and enters the factor: give --camera-pitch where you know it.")
        method = _known_height(walk(), camera_height, camera_pitch)
    elif depth_files is not None:
        method = _known_files(walk(), depth_files, depth_unit)
    else:
        method = _known_topic(opened, depth_topic, scan, mount, registered=registered, limit=limit, skip=skip)
    bundled = find(bundle)
    with (
        Engine(bundled, backend=backend, precision=precision, device=device, threads=threads) as engine,
        terminal.steps() as step,
    ):
        found = find_scale(
            engine,
            method.frames,
            method.read,
            intrinsics=camera,
            camera_name=camera_name,
            max_spread=max_spread or MAX_SPREAD,
            on_frame=lambda done: step("predicting", done, limit or opened.count or 0),
            on_skip=skip,
        )
        record = record_of(found, bundled, engine, source=opened.name, method=method.words)
    if save is not None:
        write_atomic(save, record.to_json())
    _show(terminal, found, record, save)
    terminal.finish()


@dataclass(frozen=True, slots=True, eq=False)
class _Method:
    """Frames with what is known of each, how readings are made of it, and what it is called."""

    frames: Iterable[tuple[Frame, Any]]
    read: Callable[[View], Readings]
    words: str


def parse_point(text: str) -> KnownPoint:
    """A point from [FRAME:]U,V=METRES. Raises UsageError."""
    from edge_mtl.metric_scale.readings import KnownPoint

    frame, _, place = text.rpartition(":")
    pixel, _, distance = place.partition("=")
    try:
        u, v = (float(part) for part in pixel.split(","))
        metres = float(distance)
    except ValueError:
        u = v = metres = math.nan
    if not all(map(math.isfinite, (u, v, metres))) or metres <= 0:
        raise UsageError(f"--point expects [FRAME:]U,V=METRES, such as 320,200=2.35; found {text!r}.")
    return KnownPoint(u, v, metres, frame)


def _along(along: str | None, *, points: bool) -> Along:
    if points and along is None:
        raise UsageError(
            "--point needs --along z (metres along the optical axis) or --along ray (from the camera straight to the point, as "
            "a laser distance meter measures)."
        )
    if along is not None and not points:
        raise UsageError("--along belongs to --point.")
    return "ray" if check_choice("--along", along or "z", ("z", "ray")) == "ray" else "z"


def _mount(text: str | None, *, scanning: bool) -> ScanMount | None:
    if scanning != (text is not None):
        raise UsageError("--scan and --scan-offset x,y,z,yaw belong together: where the scanner is, seen from the camera.")
    if text is None:
        return None
    from edge_mtl.metric_scale.readings import ScanMount

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (4, 5) or not all(map(math.isfinite, values)):
        raise UsageError(
            f"--scan-offset expects x,y,z,yaw or x,y,z,yaw,pitch in metres and degrees, such as 0.1,0,-0.4,0; found {text!r}."
        )
    return ScanMount(*values)


def _known_points(source: FrameSource, points: list[KnownPoint], along: Along, terminal: Terminal) -> _Method:
    from edge_mtl.errors import DepthScaleError
    from edge_mtl.metric_scale.readings import of_points
    from edge_mtl.sources.images import is_name_of

    single = source.kind == "image"
    if not single and any(not each.frame for each in points):
        raise UsageError(f"{source.contents}: --point needs the frame's name, as FRAME:U,V=METRES.")
    names = {each.frame for each in points if each.frame}

    def frames() -> Iterable[tuple[Frame, list[KnownPoint]]]:
        missing = set(names)
        for frame in source.frames(on_oddity=terminal.warn, on_end=terminal.early_end):
            named = {name for name in names if is_name_of(name, frame.name)} | ({""} if single else set())
            chosen = [each for each in points if each.frame in named]
            missing -= named
            if chosen:
                yield frame, chosen
            if not missing and not single:
                return
        if missing:
            raise DepthScaleError(f"There is no frame {', '.join(sorted(missing))} among the {source.contents}.")

    def read(view: View) -> Readings:
        return of_points(view.name, view.depth.depth_m, view.known, along=along, camera=view.camera)

    return _Method(frames(), read, f"{len(points)} known points along {'the optical axis' if along == 'z' else 'the ray'}")


def _known_height(frames: Iterable[Frame], height_m: float, pitch_deg: float | None) -> _Method:
    from edge_mtl.metric_scale.find import read_floor

    words = "" if pitch_deg is None else f", looking {pitch_deg:g} degrees down"
    read = partial(read_floor, camera_height_m=height_m, pitch_deg=pitch_deg)
    return _Method(((frame, None) for frame in frames), read, f"camera height {height_m:g} m over the floor{words}")


def _known_files(frames: Iterable[Frame], folder: Path, unit_m: float | None) -> _Method:
    from edge_mtl.errors import FrameError
    from edge_mtl.metric_scale.depth_files import read_depth_file
    from edge_mtl.metric_scale.readings import of_depth

    if not folder.is_dir():
        raise FrameError(f"--depth-files expects a folder; there is none at {folder}.")

    def read(view: View) -> Readings:
        true_m = read_depth_file(folder, view.name, unit_m=unit_m)
        return of_depth(view.name, view.depth.depth_m, true_m, farthest_m=view.depth.spec.range_m[1])

    return _Method(((frame, None) for frame in frames), read, f"depth files in {folder.resolve().name}")


def _known_topic(
    source: FrameSource,
    depth_topic: str | None,
    scan: str | None,
    mount: ScanMount | None,
    *,
    registered: bool,
    limit: int | None,
    skip: Callable[[str], None],
) -> _Method:
    from edge_mtl.errors import DepthScaleError
    from edge_mtl.metric_scale.bag_topics import SCAN, depth_of, paired, scan_of
    from edge_mtl.metric_scale.readings import of_depth, of_scan
    from edge_mtl.sources.bags import IMAGE

    topic = str(depth_topic or scan)
    pairs = paired(source, topic, IMAGE if depth_topic else SCAN, limit=limit, on_skip=skip)
    frames = ((pair.frame, (pair.frame.stamp, pair.message)) for pair in pairs)

    def read_depth(view: View) -> Readings:
        stamp, message = view.known
        if not registered and stamp.frame_id != str(message.header.frame_id):
            raise DepthScaleError(
                f"{topic} is in the frame {str(message.header.frame_id)!r}, the images are in {stamp.frame_id!r}: record depth "
                "that is registered (aligned) to the camera; if it is, say --registered."
            )
        return of_depth(view.name, view.depth.depth_m, depth_of(message), farthest_m=view.depth.spec.range_m[1])

    def read_scan(view: View) -> Readings:
        assert mount is not None
        ranges_m, angles = scan_of(view.known[1])
        camera, farthest_m = view.needs_camera("A laser scan"), view.depth.spec.range_m[1]
        return of_scan(view.name, view.depth.depth_m, ranges_m, angles, mount, camera, farthest_m=farthest_m)

    return _Method(frames, read_depth if depth_topic else read_scan, f"{'depth' if depth_topic else 'laser scan'} on {topic}")


def _show(terminal: Terminal, found: FoundScale, record: ScaleRecord, save: Path | None) -> None:
    estimate = found.estimate
    if terminal.json_output:
        from json import loads

        terminal.record(loads(record.to_json()) | {"saved": save})
    result = table("", "factor", "95 % interval", "over", "frames", "readings", "spread", "relative error", "off by")
    low_high = "unknown" if estimate.interval is None else "{:.3f} to {:.3f}".format(*estimate.interval)
    skipped = f" ({found.skipped} left out)" if found.skipped else ""
    result.add_row(
        f"{estimate.factor:.3f}",
        low_high,
        estimate.units,
        f"{estimate.frames}{skipped}",
        str(estimate.readings),
        f"{estimate.spread:.2f}",
        f"{100 * estimate.error_before:.1f} -> {100 * estimate.error_after:.1f} %",
        f"{estimate.off_before:.2f} -> {estimate.off_after:.2f}",
    )
    terminal.show(
        result,
        "Relative error: mean, before and after. Off by: median factor, too far or too near. "
        + (
            "Each frame with the factor of the others." if estimate.frames > 1 else "Of the frame that the factor was found on."
        ),
    )
    if found.skipped > estimate.frames:
        terminal.warn("most frames gave no readings: the factor is of the few that did, named above are the reasons.")
    if estimate.frames > 1 and estimate.off_after >= estimate.off_before:
        terminal.warn("the factor of other frames does not bring a frame nearer to the truth: what is wrong is not one factor.")
    if estimate.units == "blocks":
        terminal.note("fewer than six frames: the interval says how readings scatter here, not how other views differ.")
    if found.camera is None:
        terminal.note("no camera was known: the factor holds for frames without one only. Give --intrinsics fx,fy,cx,cy.")
    if found.lens:
        terminal.note(f"the frames are taken for a pinhole camera's: {found.lens}. {RECTIFY}")
    if save is not None:
        terminal.show(f"Saved {save}. Use it with: edge-mtl predict SOURCE --depth-scale {save}")
