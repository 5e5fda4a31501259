"""What a command says and where: results on standard output, everything else on standard error.

Runtimes and codecs write to the process's streams from native code: `own_streams` keeps that chatter away, so that `--json`
output is JSON and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from edge_mtl.console import Console, say
from edge_mtl.errors import SourceEndedEarly
from edge_mtl.files import plain

__all__ = ["DEBUG_VARIABLE", "Step", "Terminal", "debugging", "one_line", "own_streams", "table"]

DEBUG_VARIABLE = "EDGE_MTL_DEBUG"
_WIDTH = 120
"""Columns of tables that go to a file or a pipe."""

_TURNED = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Marks that turn the direction of writing: a name with them reads otherwise than it is."""
_CONTROL = {code: "\ufffd" for code in (*range(32), *range(127, 160), *_TURNED) if chr(code) not in "\n\t"}

Step = Callable[[str, int, int], None]
"""Reports progress: (what is being done, how many are done, of how many); 0 of 0 where nothing can be counted."""


class Terminal:
    """The two streams of one command.

    Args:
        json_output: standard output carries JSON lines only; tables and remarks are dropped or go to standard error.
        quiet: no progress and no remarks; results, warnings and errors stay.
    """

    def __init__(self, *, json_output: bool = False, quiet: bool = False) -> None:
        self.json_output, self._quiet = json_output, quiet
        self._out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
        self._err = Console(stderr=True, highlight=False)
        self._early_end: SourceEndedEarly | None = None

    def record(self, content: Any) -> None:
        """One JSON line on standard output; dataclasses become objects, NaN and infinity null.

        Raises:
            SystemExit: whoever read standard output has left, as with `| head`.
        """
        say(json.dumps(plain(content), allow_nan=False))

    def show(self, *parts: Any) -> None:
        """Text or tables on standard output; nothing with --json."""
        if not self.json_output:
            for part in parts:
                self._out.print(
                    printable(part) if isinstance(part, str) else part, markup=False, soft_wrap=isinstance(part, str)
                )

    def note(self, text: str) -> None:
        """A remark on standard error; nothing with --quiet."""
        if not self._quiet:
            self._err.print(printable(text), markup=False, soft_wrap=True)

    def note_left_out(self, left_out: Mapping[str, str]) -> None:
        """Remarks on the topics of a bag that are not read, each with the reason."""
        for topic, why in left_out.items():
            self.note(f"left out: {topic}: {why}.")

    def warn(self, text: str) -> None:
        """A warning on standard error, with --quiet too."""
        self._err.print(printable(f"warning: {text}"), markup=False, soft_wrap=True)

    def early_end(self, error: SourceEndedEarly) -> None:
        """A warning that a recording ended early, once however often it is read; `finish` gives its exit code."""
        if self._early_end is None:
            self.warn(str(error))
        self._early_end = error

    def finish(self) -> None:
        """Called when all results are there. Raises typer.Exit with the code of a recording that ended early."""
        if self._early_end is not None:
            raise typer.Exit(self._early_end.exit_code)

    @contextlib.contextmanager
    def steps(self) -> Iterator[Step]:
        """Progress on standard error: a bar on a terminal, one line per new step elsewhere, nothing with --json or --quiet."""
        if self.json_output or self._quiet:
            yield lambda text, done, total: None
            return
        if not self._err.is_terminal:
            yield _StepLines(self.note)
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._err, transient=True) as progress:
            task = progress.add_task("", total=None)
            yield lambda text, done, total: progress.update(task, description=text, completed=done, total=total or None)


class PlainTable(Table):
    """A table whose cells are text as it is: no markup, and nothing that a terminal would obey."""

    def add_row(self, *renderables: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        cells = (Text(printable(cell)) if isinstance(cell, str) else cell for cell in renderables)
        super().add_row(*cells, style=style, end_section=end_section)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; columns named in `right` are aligned to the right."""
    result = PlainTable(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=SIMPLE_HEAD,
    )
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def one_line(text: str) -> str:
    """`text` on a single line, runs of white space made one space."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """`text` without control characters: names in files may hold commands for the terminal."""
    return text.translate(_CONTROL)


def debugging() -> bool:
    """Whether tracebacks and native chatter are wanted: $EDGE_MTL_DEBUG is set and not 0."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


@contextlib.contextmanager
def own_streams() -> Iterator[None]:
    """Python's streams stay; what native code writes to descriptors 1 and 2 vanishes (with debugging: goes to 2).

    Descriptors and streams are as they were when the block ends.
    """
    try:
        kept = [os.dup(1), os.dup(2)]
    except OSError:  # started without the standard descriptors: nothing to protect
        yield
        return
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    sys.stdout, sys.stderr = (
        os.fdopen(os.dup(descriptor), "w", encoding=getattr(stream, "encoding", None) or "utf-8", errors="replace", buffering=1)
        for descriptor, stream in zip(kept, streams, strict=True)
    )
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(2 if debugging() else sink, 1)
        if not debugging():
            os.dup2(sink, 2)
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.close()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.close()
        sys.stdout, sys.stderr = streams
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, sink):
            os.close(descriptor)


class _StepLines:
    """Progress where there is no terminal: a line whenever a new step begins."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last = ""

    def __call__(self, text: str, done: int, total: int) -> None:
        if text != self._last:
            self._last = text
            self._write(text)
