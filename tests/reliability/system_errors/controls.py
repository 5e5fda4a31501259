"""Positive controls: commands that were given a real fault, which the gate must name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.reliability.system_errors.forked import attach_works, forked
from tests.reliability.system_errors.trial import Site, site

__all__ = ["an_error_that_escapes", "half_a_file"]


def half_a_file() -> tuple[str, str]:
    """A writer that writes in place and takes a full disk for nothing: (fault, what the gate says of it)."""
    with site("predict-image", traced=not attach_works()) as trials:
        return "a writer in place that ignores a full disk", _said(trials, _write_in_place)


def an_error_that_escapes() -> tuple[str, str]:
    """A command whose handler of the system's errors is gone."""
    with site("script", traced=False) as trials:
        return "a reader that lets an OSError escape", _said(trials, _read_badly)


def _said(trials: Site, fault: Callable[[], None]) -> str:
    trials.fresh()
    found, _ = forked(trials.command, trials.folder, before=fault)
    return "; ".join(trials.judged(found))


def _write_in_place() -> None:
    """In the child."""
    from edge_mtl.outputs import result_files

    def write(path: Path, payload: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.write(payload[: len(payload) // 2])  # there is no more room, and nobody looks

    result_files.write_atomic = write


def _read_badly() -> None:
    """In the child."""
    from edge_mtl.bundle import Bundle

    def read(self: Bundle, relative: str) -> bytes:
        raise OSError(5, os.strerror(5), str(self.path / relative))

    Bundle.read = read  # type: ignore[method-assign]
