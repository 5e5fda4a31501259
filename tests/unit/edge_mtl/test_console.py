"""A console whose reader leaves."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from edge_mtl.console import EXIT_PIPE, Console


def test_whoever_prints_to_a_reader_that_left_ends_as_if_by_the_signal() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream, kept = os.fdopen(writing, "w"), os.dup(1)
    try:
        with pytest.raises(SystemExit) as caught:
            Console(file=stream).print("nobody reads this")
    finally:
        os.dup2(kept, 1)  # rich lets standard output lead nowhere
        os.close(kept)
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    assert caught.value.code == EXIT_PIPE


def test_plain_lines_end_the_same_way_without_a_word() -> None:
    words = [sys.executable, "-c", "import sys; sys.stdin.read(); from edge_mtl.console import say; say('nobody reads this')"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate()[1] == b""
    assert process.returncode == EXIT_PIPE
