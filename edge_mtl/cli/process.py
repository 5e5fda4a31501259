"""One run of the command line as a process: arguments in, exit code out, every failure one line."""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import UsageError
from edge_mtl.cli.terminal import DEBUG_VARIABLE, debugging, one_line, own_streams
from edge_mtl.console import EXIT_PIPE
from edge_mtl.errors import EdgeMtlError
from edge_mtl.packages import UNEXPLAINED
from edge_mtl.remedies import NO_MEMORY, remedy
from edge_mtl.standard_streams import open_standard_streams

__all__ = ["main"]

EXIT_USAGE, EXIT_INTERNAL, EXIT_FILES, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 70, 74, 130, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; every failure becomes one line on standard error."""
    open_standard_streams()
    with own_streams(), _terminable(), warnings.catch_warnings():
        warnings.showwarning = _warn
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
        except BrokenPipeError:  # of an old rich; see `Terminal` for newer ones
            return EXIT_PIPE
        except OSError as exc:
            where = f" ({exc.filename})" if exc.filename else ""
            return _fail(f"{exc.strerror or exc}{where}. Nothing half-written was left. {remedy(exc)}", EXIT_FILES)
        except MemoryError:
            return _fail(f"there is too little memory. Nothing half-written was left. {NO_MEMORY}", EXIT_FILES)
        except SystemError as exc:
            return _fail(f"{UNEXPLAINED.format(exc)} Nothing half-written was left.", EXIT_FILES)
        except (KeyboardInterrupt, typer.Abort):
            return _fail("interrupted.", EXIT_INTERRUPTED)
        except Exception as exc:
            if hasattr(exc, "format_message"):  # typer's usage errors; their class moved between its versions
                return _fail(f"{one_line(exc.format_message()).rstrip('.')}. See: {_help_command(exc)}", EXIT_USAGE)
            return _fail(f"internal error, {type(exc).__name__}: {exc}. Set {DEBUG_VARIABLE}=1 for details.", EXIT_INTERNAL)


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: str | None = None
) -> None:
    """A warning of Python's in one line, as every command's own."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"warning: {one_line(str(message))}\n")


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
