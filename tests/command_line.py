"""Runs `edge-mtl` inside the test's process, with real descriptors, and keeps what it said."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from typing import Any

from edge_mtl.cli import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[Any]:
        """The JSON lines on standard output; fails on anything else there."""
        return [json.loads(line) for line in self.out.splitlines()]


def edge_mtl(*arguments: object) -> Outcome:
    """Run `edge-mtl ARGUMENTS...`; descriptors 1 and 2 are files for its duration, as under a shell redirection."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            code = main([str(argument) for argument in arguments])
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for descriptor in kept:
                os.close(descriptor)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return Outcome(code, *texts)


def assert_failed(outcome: Outcome, code: int, *words: str) -> None:
    """The command failed with `code`, one line that contains `words`, no traceback, and nothing on standard output."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, outcome.err
    assert outcome.err.endswith(lines[0] + "\n")
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in lines[0], lines[0]
