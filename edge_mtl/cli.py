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
from typing import Annotated, NoReturn

import typer

from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import DEBUG_VARIABLE, Terminal, debugging, one_line, own_streams
from edge_mtl.errors import EdgeMtlError

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
    ),
)
def build_engine(
    bundle: BundleArgument = None,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers, calibrated.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Full precision.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16, where the processor computes with it.")] = False,
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
    """
    chosen = [name for name, given in (("int8", int8), ("fp32", fp32), ("fp16", fp16), ("bf16", bf16)) if given]
    if len(chosen) != 1:
        found = " and ".join(f"--{name}" for name in chosen) or "none"
        raise UsageError(f"expected one precision of --int8, --fp32, --fp16, --bf16; found {found}. Try --int8.")
    from edge_mtl.commands.build_engine import run

    run(Terminal(json_output=json), bundle, chosen[0], backend=backend, calibration=calibration, threads=threads)


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
    from edge_mtl.commands.demo import run

    run(Terminal(), bundle, out)


class UsageError(Exception):
    """The arguments fit the command's types but make no sense."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; every failure becomes one line on standard error."""
    with own_streams(), _terminable():
        try:
            code = typer.main.get_command(app).main(args=arguments, prog_name="edge-mtl", standalone_mode=False)
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
