"""`edge-mtl`: parse, call, print. What the commands do is in edge_mtl.commands and the modules it calls.

Commands import what they need when they run, so that `edge-mtl --help` starts no runtime.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import DEBUG_VARIABLE, Terminal, debugging, one_line, own_streams
from edge_mtl.errors import EdgeMtlError

if TYPE_CHECKING:
    from edge_mtl.build.frame_choice.choose import Embedding
    from edge_mtl.build.gate.budget import Budget

__all__ = ["app", "main"]

EXIT_USAGE, EXIT_INTERNAL, EXIT_FILES, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 70, 74, 130, 143


def _block(title: str, *lines: str) -> str:
    """A paragraph of help that is not re-wrapped."""
    return "\n".join(("\b", title, *(f"  {line}" for line in lines)))


_EPILOG = "\n\n".join(
    (
        _block(
            "Examples:",
            "edge-mtl demo                     build, predict, draw a picture, benchmark",
            "edge-mtl build-engine --int8      an engine for this device",
            "edge-mtl infer room.jpg           use it",
        ),
        _block(
            "Exit codes:",
            "0 success                         8 accuracy below its budget",
            "2 wrong usage                     9 an engine could not be built",
            "3 bundle missing or altered      10 a runtime failed",
            "4 engine missing or foreign      11 engine closed",
            "5 backend not here               70 internal error",
            "6 frame or source unusable       74 file system: disk full, no permission",
            "7 calibration frames unusable   130 interrupted, 143 terminated",
        ),
        f"{DEBUG_VARIABLE}=1 shows tracebacks and what the runtimes print.",
    )
)

app = typer.Typer(
    name="edge-mtl",
    help="Segmentation, metric depth and surface normals from one RGB frame: build engines on this device and run them.",
    epilog=_EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

_BUNDLE_HELP = "Folder of the bundle; default: $EDGE_MTL_BUNDLE, else the newest in ./bundles, else the demo bundle."
BundleArgument = Annotated[Path | None, typer.Argument(metavar="[BUNDLE]", help=_BUNDLE_HELP, show_default=False)]
BundleOption = Annotated[Path | None, typer.Option("--bundle", metavar="DIR", help=_BUNDLE_HELP, show_default=False)]
BackendOption = Annotated[str, typer.Option("--backend", metavar="NAME", help="auto, onnxruntime or openvino.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", metavar="NAME", help="auto, or a precision that an engine was built with.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, max=1024, help="Threads of the runtime; default: one per core.")
]
_MAX_DROP_BUILD_HELP = "What an engine may lose, e.g. miou=0.01,rel=0.02,normal=0.5; default: only a warning; with auto: these."
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]


def _version(wanted: bool) -> None:
    if wanted:
        from edge_mtl import __version__

        typer.echo(f"edge-mtl {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    "build-engine",
    short_help="Build an engine of a bundle for this device.",
    epilog=_block(
        "Examples:",
        "edge-mtl build-engine --int8",
        "edge-mtl build-engine bundles/rooms-b0 --int8 --backend openvino --threads 4",
        "edge-mtl build-engine bundles/rooms-b0 --int8 --calibration pictures-of-my-robot/",
        "edge-mtl build-engine --precision auto --max-drop miou=0.01,rel=0.02,normal=0.5",
    ),
)
def build_engine(
    bundle: BundleArgument = None,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers, calibrated.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Full precision.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16, where the processor computes with it.")] = False,
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="NAME", help="int8, fp32, fp16, bf16, or auto: the fastest within the budget."),
    ] = None,
    max_drop: Annotated[str | None, typer.Option("--max-drop", metavar="LIST", help=_MAX_DROP_BUILD_HELP)] = None,
    backend: BackendOption = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="DIR", help="Pictures for the INT8 ranges; default: those of the bundle."),
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Build an engine of a bundle for this device.

    Every candidate of the precision asked for is timed on this machine, tested against the FP32 reference and scored on
    the bundle's labelled frames; the fastest that keeps its accuracy goes into the bundle's engine store.

    With --precision auto all precisions are candidates, and INT8 with some blocks in floats: blocks that do not pay
    here, and those that it takes to stay within the budget.
    """
    flags = (("int8", int8), ("fp32", fp32), ("fp16", fp16), ("bf16", bf16))
    chosen = [name for name, given in flags if given] + ([] if precision is None else [precision])
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none"
        raise UsageError(
            f"expected one precision of --int8, --fp32, --fp16, --bf16, --precision auto; found {found}. Try --int8."
        )
    from edge_mtl.commands.build_engine import run

    budget = None if max_drop is None else _budget(max_drop)
    run(Terminal(json_output=json), bundle, chosen[0], backend=backend, calibration=calibration, threads=threads, budget=budget)


@app.command(
    short_help="Predict on pictures, a folder, a video or a camera.",
    epilog=_block(
        "Examples:",
        "edge-mtl infer room.jpg --save panel,png,npz",
        "edge-mtl infer pictures/ --out results --intrinsics 525,525,319.5,239.5",
        "edge-mtl infer tour.mp4 --save overlay",
        "edge-mtl infer camera:0 --json | jq .depth_median_m",
    ),
)
def infer(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A picture, a folder of pictures, a video, or camera:N.")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
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
    """Predict on pictures, a folder, a video or a camera, and save what was predicted.

    \b
    overlay  classes in colour over the frame
    panel    the frame and all its maps in one picture
    png      labels (palette), depth (16-bit millimetres, and in colour), normals
    npz      the exact arrays, and the camera they are in

    Of a video or a camera, overlay and panel are videos. A camera runs until Ctrl-C; what was recorded until then is
    kept. Pictures of a folder that cannot be read are named and left out.
    """
    from edge_mtl.commands.infer import parse_intrinsics, parse_kinds, run

    try:
        kinds, camera = parse_kinds(save), parse_intrinsics(intrinsics)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    folder = out if out is not None or json else Path("out")
    engine = EngineOptions(bundle, backend, precision, threads)
    run(Terminal(json_output=json), source, engine, out=folder, kinds=kinds, intrinsics=camera, limit=limit)


@app.command(
    "run-bag",
    short_help="Predict on a recorded ROS 2 bag.",
    epilog=_block(
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
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The bag to write; default: BAG-maps.")] = None,
    topic: Annotated[str | None, typer.Option("--topic", metavar="NAME", help="Of the images, if there are several.")] = None,
    camera_info: Annotated[
        str | None, typer.Option("--camera-info", metavar="NAME", help="Of the camera; default: beside the images.")
    ] = None,
    storage: Annotated[str, typer.Option("--storage", metavar="NAME", help="sqlite3, mcap, or same as the bag.")] = "same",
    stability: Annotated[bool, typer.Option("--stability", help="Smooth the maps where the picture stands still.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Stop after this many images.")] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Predict on every image of a recorded ROS 2 bag and write a new bag with the maps added. Needs no ROS.

    The new bag has all that was recorded, and /edge_mtl/segmentation, depth and normals with the stamps of their images.
    Depth is in metres where the bag has camera_info.
    """
    if storage not in ("same", "sqlite3", "mcap"):
        raise UsageError(f"--storage expects same, sqlite3 or mcap; found {storage!r}.")
    from edge_mtl.commands.run_bag import run

    run(
        Terminal(json_output=json),
        bag,
        EngineOptions(bundle, backend, precision, threads),
        out=out,
        topic=topic,
        camera_topic=camera_info,
        storage=storage,
        stability=stability,
        limit=limit,
    )


@app.command(
    short_help="Time every engine against FP32 ONNX Runtime.",
    epilog=_block("Examples:", "edge-mtl benchmark", "edge-mtl benchmark bundles/rooms-b0 --backend openvino --json"),
)
def benchmark(
    bundle: BundleArgument = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, max=100_000, help="Frames per engine.")] = 30,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Time every engine of this device against FP32 ONNX Runtime on the plain model.

    Whole frames, from picture to maps; the engines take turns frame by frame, so that what else the machine does hits
    them alike.
    """
    from edge_mtl.commands.benchmark import run

    run(Terminal(json_output=json), EngineOptions(bundle, backend, precision, threads), rounds=rounds)


@app.command(
    short_help="Show and verify what is in a bundle.",
    epilog=_block("Examples:", "edge-mtl inspect", "edge-mtl inspect bundles/rooms-b0 --json"),
)
def inspect(bundle: BundleArgument = None, json: JsonOption = False) -> None:
    """Show what is in a bundle, after checking every file against its hash, and its engines on this device."""
    from edge_mtl.commands.inspect import run

    run(Terminal(json_output=json), bundle)


@app.command(
    short_help="Say what can run here, and what is missing.",
    epilog=_block("Examples:", "edge-mtl doctor", "edge-mtl doctor --json"),
)
def doctor(json: JsonOption = False) -> None:
    """Say what can run here, what cannot and why, and what to install.

    Succeeds where at least one backend is usable; else the exit code is 5.
    """
    from edge_mtl.commands.doctor import run

    run(Terminal(json_output=json))


@app.command(
    short_help="From the demo bundle to a picture and a benchmark.",
    epilog=_block("Examples:", "edge-mtl demo", "edge-mtl demo --bundle bundles/rooms-b2 --out b2.png"),
)
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The picture to write.")] = Path("out/demo.png"),
    bundle: BundleOption = None,
) -> None:
    """From the demo bundle to a picture and a benchmark.

    Builds the INT8 engine if this device has none, predicts on rooms with known answers and on a real photograph, draws
    everything into one picture, and times the engines.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out expects a file name that ends in .png; found {str(out)!r}.")
    from edge_mtl.commands.demo import run

    run(Terminal(), bundle, out)


_MAX_DROP_HELP = (
    "What a graph may lose against FP32 where frames are labelled: miou (0..1), rel (share of the true depth), normal "
    "(degrees); and by how much it may differ from FP32 anywhere: classes=0.05, depth=0.05, angle=3."
)
MaxDropOption = Annotated[str, typer.Option("--max-drop", metavar="LIST", help=_MAX_DROP_HELP)]
_MAX_DROP = "miou=0.01,rel=0.02,normal=0.5"
CountOption = Annotated[
    int | None, typer.Option("--count", metavar="N", min=1, max=4096, help="Frames to choose; default: as the recipe says.")
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Decides on the first frame.")]
EmbeddingOption = Annotated[
    str, typer.Option("--embedding", metavar="NAME", help="What distance means: network, or colour (faster, no runtime).")
]
TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="NAME", help="Of the bag's images, where it has several.", show_default=False)
]
EveryOption = Annotated[
    int, typer.Option("--every", metavar="N", min=1, max=1_000_000, help="Take every N-th frame of a video or bag.")
]


@app.command(
    short_help="Measure every engine of a bundle against FP32 and a budget.",
    epilog=_block(
        "Examples:",
        "edge-mtl verify bundles/rooms-b0",
        "edge-mtl verify bundles/rooms-b0 --data my-labelled-frames --max-drop miou=0.005,normal=0.3",
        "edge-mtl verify bundles/rooms-b0 --no-write --json | jq .passed",
    ),
)
def verify(
    bundle: BundleArgument = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Frames to measure on; default: the bundle's evaluation frames."),
    ] = None,
    max_drop: MaxDropOption = _MAX_DROP,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    write: Annotated[bool, typer.Option("--write/--no-write", help="Put the card into the bundle.")] = True,
    json: JsonOption = False,
) -> None:
    """Measure every engine of a bundle against FP32 and a budget, and write the accuracy card.

    Accuracy per head and class, calibration error, noise block by block and the worst frames go into the bundle, where one
    is named, as a new revision; the old one is kept. Fails with exit code 8 where a head is out of budget; the bundle is
    then left as it was.

    \b
    DIR holds NAME.jpg or .png, and beside it, where labelled:
    NAME.label.png    class index, 255 void
    NAME.depth.png    16 bits, fifths of a millimetre, 0 unknown
    NAME.normals.png  128 + 127 n as RGB, 0 unknown
    intrinsics.json   {"NAME": [fx, fy, cx, cy]}

    Without labels only the difference from FP32's own answers is judged.
    """
    from edge_mtl.commands.verify import run

    run(Terminal(json_output=json), bundle, data=data, budget=_budget(max_drop), backend=backend, threads=threads, write=write)


@app.command(
    short_help="Choose calibration frames for a bundle, and gate the result.",
    epilog=_block(
        "Examples:",
        "edge-mtl calibrate my-dataset --bundle bundles/rooms-b0",
        "edge-mtl calibrate tour.mp4 --bundle bundles/rooms-b0 --every 10 --count 48",
        "edge-mtl calibrate tour.mp4 --out chosen-frames",
    ),
)
def calibrate(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder (of a dataset its train folder), a video or a ROS bag.")
    ],
    bundle: BundleOption = None,
    count: CountOption = None,
    seed: SeedOption = 0,
    embedding: EmbeddingOption = "network",
    topic: TopicOption = None,
    every: EveryOption = 1,
    max_drop: MaxDropOption = _MAX_DROP,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Only write the chosen frames there, as pictures.")
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Choose calibration frames for a bundle, and gate the result.

    Frames are chosen so that they cover the source; black, blurred and doubled ones are left out and named. INT8 graphs
    made with them must stay within the budget; then frames, graphs and card go into the bundle as a new revision. A run
    that was interrupted goes on where it stopped.
    """
    from edge_mtl.commands.recalibrate import ChoiceOptions, run

    options = ChoiceOptions(count, seed, _embedding(embedding), topic, every)
    terminal, budget = Terminal(json_output=json), _budget(max_drop)
    if out is not None:
        from edge_mtl.build.frame_choice.sources import open_frames
        from edge_mtl.commands.calibrate import write_choice

        write_choice(terminal, bundle, open_frames(source, topic=topic, every=every), options, out, threads=threads)
        return
    run(terminal, bundle, source, options, budget=budget, engines=False, backend="auto", threads=threads)


@app.command(
    short_help="Calibrate a bundle on this device with its own frames.",
    epilog=_block(
        "Examples:",
        "edge-mtl recalibrate bundles/rooms-b0 --bag tour.mcap --topic /camera/image_raw",
        "edge-mtl recalibrate bundles/rooms-b0 --folder pictures-of-my-robot",
        "edge-mtl recalibrate bundles/rooms-b0 --rollback",
    ),
)
def recalibrate(
    bundle: BundleArgument = None,
    bag: Annotated[Path | None, typer.Option("--bag", metavar="FILE", help="A ROS 1 or ROS 2 bag.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", metavar="DIR", help="Pictures.")] = None,
    video: Annotated[Path | None, typer.Option("--video", metavar="FILE", help="A video.")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the revision before.")] = False,
    to: Annotated[int | None, typer.Option("--to", metavar="N", min=1, help="With --rollback: this revision.")] = None,
    count: CountOption = None,
    seed: SeedOption = 0,
    embedding: EmbeddingOption = "network",
    topic: TopicOption = None,
    every: EveryOption = 1,
    max_drop: MaxDropOption = _MAX_DROP,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Calibrate a bundle on this device with its own frames, gate it against FP32, and swap it in one step.

    As `calibrate`, and the engines of this device are built as well. Until the last step nothing is changed: whatever
    happens before, the bundle is as it was. The revision before stays beside it, and --rollback puts it back.
    """
    from edge_mtl.commands.recalibrate import ChoiceOptions, go_back, run

    sources = [path for path in (bag, folder, video) if path is not None]
    terminal = Terminal(json_output=json)
    if rollback:
        if sources:
            raise UsageError("expected either --rollback or frames, found both.")
        go_back(terminal, bundle, to=to)
        return
    if len(sources) != 1 or to is not None:
        found = "--to without --rollback" if to is not None else f"{len(sources)} of them"
        raise UsageError(f"expected one of --bag, --folder, --video, or --rollback; found {found}.")
    options = ChoiceOptions(count, seed, _embedding(embedding), topic, every)
    run(terminal, bundle, sources[0], options, budget=_budget(max_drop), engines=True, backend=backend, threads=threads)


def _budget(text: str) -> Budget:
    from edge_mtl.build.gate.budget import Budget

    try:
        return Budget.parse(text)
    except ValueError as exc:
        raise UsageError(f"--max-drop: {exc}") from exc


def _embedding(text: str) -> Embedding:
    if text not in ("network", "colour"):
        raise UsageError(f"--embedding should be network or colour; found {text!r}.")
    return "network" if text == "network" else "colour"


@app.command(
    short_help="Rank a network's blocks by what integers cost and gain.",
    epilog=_block(
        "Examples:",
        "edge-mtl sensitivity",
        "edge-mtl sensitivity bundles/rooms-b0 --target tensorrt --level layer",
    ),
)
def sensitivity(
    bundle: BundleArgument = None,
    target: Annotated[str, typer.Option("--target", metavar="NAME", help="onnxruntime, openvino or tensorrt.")] = "onnxruntime",
    level: Annotated[str, typer.Option("--level", metavar="NAME", help="block, or layer.")] = "block",
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="How to quantize; default: the package's.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="DIR", help="Pictures for the INT8 ranges; default: those of the bundle."),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=1, help="Labelled frames to score on.")] = 16,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=0, help="Timed runs per block; 0: none.")] = 12,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of table and picture.")] = Path("out"),
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Rank a network's blocks by what integers cost and gain.

    Each block is quantized alone; its noise at every head, the accuracy that is lost and the time that is saved go into
    a table, a picture and a JSON file. A run that was stopped goes on where it was.
    """
    from edge_mtl.commands.sensitivity import run

    run(
        Terminal(json_output=json),
        bundle,
        target=target,
        level=level,
        recipe=recipe,
        calibration=calibration,
        frames=frames,
        rounds=rounds,
        threads=threads,
        out=out,
    )


class UsageError(Exception):
    """The arguments fit the command's types but make no sense."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; every failure becomes one line on standard error."""
    with own_streams(), _terminable():
        try:
            given = list(sys.argv[1:] if arguments is None else arguments)
            if any(text == "" or (text.startswith("--") and text.endswith("=")) for text in given):
                raise UsageError("an argument is empty. Is a variable of the shell not set?")
            code = typer.main.get_command(app).main(args=given, prog_name="edge-mtl", standalone_mode=False)
            return code if isinstance(code, int) else 0
        except EdgeMtlError as exc:
            return _fail(str(exc), exc.exit_code)
        except UsageError as exc:
            return _fail(str(exc), EXIT_USAGE)
        except OSError as exc:
            where = f" ({exc.filename})" if exc.filename else ""
            return _fail(f"{exc.strerror or exc}{where}. Nothing half-written was left.", EXIT_FILES)
        except (KeyboardInterrupt, typer.Abort):
            return _fail("interrupted.", EXIT_INTERRUPTED)
        except Exception as exc:
            if hasattr(exc, "format_message"):  # typer's usage errors; their class moved between its versions
                return _fail(f"{one_line(exc.format_message()).rstrip('.')}. See: {_help_command(exc)}", EXIT_USAGE)
            return _fail(f"internal error, {type(exc).__name__}: {exc}. Set {DEBUG_VARIABLE}=1 for details.", EXIT_INTERNAL)


def _fail(message: str, code: int) -> int:
    if debugging():
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stderr.write(f"error: {one_line(message)}\n")
    return code


def _help_command(exc: Exception) -> str:
    context = getattr(exc, "ctx", None)
    return f"{context.command_path if context is not None else 'edge-mtl'} --help"


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds the stack like an exception, so that temporary files are removed and locks released."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(EXIT_TERMINATED)

    try:
        previous = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: signals are not ours to handle
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    sys.exit(main())
