"""Where a recording goes: a viewer on this screen, a viewer elsewhere, or a file. Imports rerun, here and only here.

`tasks` are those whose maps get a place in the window; `step` is that of `Stage`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_mtl.errors import BackendUnavailable
from edge_mtl.outputs.stage import Stage, blueprint
from edge_mtl.packages import import_package
from edge_mtl.tasks import Specs
from edge_mtl.unfinished import make_file, unfinished_name

__all__ = ["SUFFIX", "live", "remote", "saved"]

SUFFIX = ".rrd"
_NAME = "edge_mtl"
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")


@contextmanager
def saved(path: Path, *, tasks: Specs, step: int) -> Iterator[Stage]:
    """A stage whose recording is at `path` once the block ends without an error, and nowhere else otherwise.

    Raises:
        BackendUnavailable: rerun is not installed.
        OSError: the file cannot be written.
    """
    rerun = _rerun()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished_name(path.parent, suffix=SUFFIX)
    descriptor = None
    try:
        descriptor = make_file(temporary)
        recording = rerun.RecordingStream(_NAME)
        recording.save(temporary, default_blueprint=blueprint(rerun, tasks))
        try:
            yield Stage(rerun, recording, step=step)
        finally:
            recording.flush()
            recording.disconnect()
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def live(*, tasks: Specs, step: int, environment: Mapping[str, str] | None = None) -> Iterator[Stage]:
    """A stage that a viewer on this screen shows; the viewer stays open afterwards.

    Raises:
        BackendUnavailable: rerun is not installed, there is no screen, or the viewer does not start.
    """
    rerun = _rerun()
    found = os.environ if environment is None else environment
    if sys.platform == "linux" and not any(found.get(name) for name in _SCREENS):
        raise BackendUnavailable(
            "The viewer needs a screen, and neither DISPLAY nor WAYLAND_DISPLAY is set. "
            "Record to a file with --save tour.rrd, or show it on another machine with --connect rerun+http://HOST:9876/proxy"
        )
    recording = rerun.RecordingStream(_NAME)
    try:
        recording.spawn(default_blueprint=blueprint(rerun, tasks))
    except Exception as exc:  # no executable, no port
        raise BackendUnavailable(f"The viewer does not start ({exc}). Try: rerun, or record with --save tour.rrd") from exc
    with _flushed(recording):
        yield Stage(rerun, recording, step=step)


@contextmanager
def remote(url: str, *, tasks: Specs, step: int) -> Iterator[Stage]:
    """A stage that a viewer elsewhere shows, started there with the command `rerun`.

    Args:
        url: such as rerun+http://laptop:9876/proxy.
    Raises:
        BackendUnavailable: rerun is not installed, or `url` is not an address of a viewer.
    """
    rerun = _rerun()
    recording = rerun.RecordingStream(_NAME)
    try:
        recording.connect_grpc(url, default_blueprint=blueprint(rerun, tasks))
    except Exception as exc:  # a malformed address; an absent viewer shows only later, in a warning of rerun's own
        raise BackendUnavailable(
            f"{url} is not an address of a viewer ({exc}). It looks like rerun+http://HOST:9876/proxy"
        ) from exc
    with _flushed(recording):
        yield Stage(rerun, recording, step=step)


@contextmanager
def _flushed(recording: Any) -> Iterator[None]:
    try:
        yield
    finally:
        recording.flush()
        recording.disconnect()


def _rerun() -> Any:
    return import_package("rerun", "RecordingStream", use="The viewer needs the package rerun-sdk", install="edge-mtl[view]")
