"""Processes that run a command and can be killed: forked from a server that has imported everything once.

Knows processes; knows nothing about what commands do. A child is the leader of a session of its own, says when it is ready,
and waits until it may begin, so that a tracer can be attached in between.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

__all__ = ["Child", "environment", "forking"]

PATIENCE_S = 1800.0


def forking(*preload: str) -> ForkServerContext:
    """Where processes come from; the server imports `preload` when the first one is started."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload])
    return context


def environment(folder: Path) -> dict[str, str]:
    """Variables that keep whatever a command writes below `folder`, and one thread each."""
    places = {"XDG_CACHE_HOME": folder / "cache", "TMPDIR": folder / "tmp", "HOME": folder / "home"}
    return {**{name: str(place) for name, place in places.items()}, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


class Child:
    """A process that calls `work(folder, *arguments)`, whose result is its exit code, once `go` was called."""

    def __init__(self, context: ForkServerContext, work: Callable[..., int], folder: Path, *arguments: Any) -> None:
        self.log = folder.with_name(f"{folder.name}.log")
        here, there = context.Pipe()
        self._process = context.Process(target=_run, args=(there, self.log, work, folder, *arguments))
        self._process.start()
        there.close()
        self._pipe = here
        if not here.poll(PATIENCE_S):
            raise TimeoutError("a process did not start")
        here.recv()
        self.began_s = 0.0

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def go(self) -> None:
        """Let it begin."""
        self.began_s = time.monotonic()
        self._pipe.send(None)

    def ended(self, timeout_s: float = PATIENCE_S) -> int | None:
        """Its exit code, minus the signal that killed it; None while it still runs after so long."""
        self._process.join(timeout_s)
        return self._process.exitcode

    def kill(self) -> int:
        """SIGKILL to all of its processes; how it ended, which may have been before."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self.ended()
        self._pipe.close()
        assert code is not None
        return code

    def said(self) -> str:
        """The last line that it wrote."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _run(pipe: Connection, log: Path, work: Callable[..., int], folder: Path, *arguments: Any) -> None:
    os.setsid()
    os.environ.update(environment(folder))
    os.environ.pop("EDGE_MTL_BUNDLE", None)
    tempfile.tempdir = None
    for name in ("tmp", "home", "cache"):
        (folder / name).mkdir(exist_ok=True)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor in (1, 2):
        os.dup2(stream, descriptor)
    os.chdir(folder)
    pipe.send(os.getpid())
    pipe.recv()
    code = work(folder, *arguments)
    sys.stdout.flush()
    sys.exit(code)
