"""A console whose reader leaves."""

from __future__ import annotations

import contextlib
import os

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
