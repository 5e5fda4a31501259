"""What is printed for readers that may leave: rich's console, and plain lines."""

from __future__ import annotations

import os
import sys

import rich.console

__all__ = ["EXIT_PIPE", "Console", "say"]

EXIT_PIPE = 141
"""Exit code where whoever read standard output has left, as a shell says of a process that SIGPIPE ended."""


class Console(rich.console.Console):
    """A console whose reader may leave, as with `| head`: the command ends as one that the signal ended, without a word."""

    def on_broken_pipe(self) -> None:
        raise SystemExit(EXIT_PIPE)


def say(text: str) -> None:
    """Print to standard output. Raises SystemExit where whoever reads it has left."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
        raise SystemExit(EXIT_PIPE) from None
