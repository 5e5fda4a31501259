"""Rich's console, for readers that may leave."""

from __future__ import annotations

import rich.console

__all__ = ["EXIT_PIPE", "Console"]

EXIT_PIPE = 141
"""Exit code where whoever read standard output has left, as a shell says of a process that SIGPIPE ended."""


class Console(rich.console.Console):
    """A console whose reader may leave, as with `| head`: the command ends as one that the signal ended, without a word."""

    def on_broken_pipe(self) -> None:
        raise SystemExit(EXIT_PIPE)
