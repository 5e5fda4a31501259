"""The application that commands are registered with, and what it says about itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from edge_mtl import opencv
from edge_mtl.cli.arguments import block
from edge_mtl.cli.terminal import DEBUG_VARIABLE

__all__ = ["app"]

_EPILOG = "\n\n".join(
    (
        block(
            "Examples:",
            "edge-mtl demo                     build, predict, draw an image, benchmark",
            "edge-mtl build-engine --int8      an engine for this device",
            "edge-mtl predict room.jpg         use it",
        ),
        block(
            "Exit codes:",
            "0 success                         8 accuracy below its budget",
            "2 wrong usage                     9 an engine or a file could not be made",
            "3 bundle or data file unusable   10 a runtime failed",
            "4 engine missing or foreign      11 engine closed",
            "5 backend not here               15 a benchmark became slower",
            "6 frame or source unusable       16 a recording ended early",
            "7 calibration frames unusable    70 internal error",
            "12 no scale of depth             74 disk full, no permission, no memory",
            "17 not signed, or altered since  130 interrupted, 143 terminated",
        ),
        f"{DEBUG_VARIABLE}=1 shows tracebacks and what the runtimes print.",
    )
)

_WITHOUT_OPENCV = ("compare", "doctor", "engines", "export", "inspect", "sign")
"""Commands that import no OpenCV."""


class _Command(TyperCommand):
    """A command that looks at OpenCV once, after its arguments are parsed and before it starts."""

    def invoke(self, ctx: Any) -> Any:
        if self.name not in _WITHOUT_OPENCV:
            opencv.require()
        return super().invoke(ctx)


class _Application(typer.Typer):
    """Registers every command as a _Command."""

    def command(self, *arguments: Any, **options: Any) -> Any:
        return super().command(*arguments, **{"cls": _Command, **options})


app = _Application(
    name="edge-mtl",
    help="Segmentation, metric depth and surface normals from one RGB frame: build engines on this device and run them.",
    epilog=_EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
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
