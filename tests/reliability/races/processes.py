"""Processes that begin together, each with its own disturbance, and what became of them. Knows nothing about engines."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from edge_mtl.errors import EdgeMtlError
from tests.reliability.races.jitter import disturb

__all__ = ["HANG_S", "Outcome", "together"]

HANG_S = 900.0
"""Longer than any schedule takes on a machine with much else to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one process returned, or how it failed.

    Attributes:
        role: of the process in its scenario.
        value: what its function returned.
        error: name and text of what it raised; empty where it returned.
        typed: whether that was an EdgeMtlError.
    """

    role: str
    value: Any = None
    error: str = ""
    typed: bool = False

    @property
    def kind(self) -> str:
        """Name of what was raised."""
        return self.error.partition(":")[0]


def together(
    seed: int, roles: Sequence[tuple[str, Callable[[], Any]]], *, calm: Sequence[str] = (), hang_s: float = HANG_S
) -> list[Outcome]:
    """Fork a process for each role, let all begin at once, and wait until all have ended.

    Args:
        roles: names and functions; what they return must be picklable.
        calm: roles that are not disturbed.
        hang_s: what takes longer hangs.
    """
    context = multiprocessing.get_context("fork")
    start, dice = context.Event(), random.Random(seed)
    children: list[tuple[str, Any, Connection]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for role, function in roles:
            ours, theirs = context.Pipe(duplex=False)
            own = None if role in calm else dice.getrandbits(32)
            child = context.Process(target=partial(_child, role, function, own, start, theirs), daemon=False)
            child.start()
            theirs.close()
            children.append((role, child, ours))
    start.set()
    end_s = time.monotonic() + hang_s
    found = []
    for role, child, ours in children:
        if wait([ours], max(0.0, end_s - time.monotonic())):
            try:
                found.append(ours.recv())
            except EOFError:
                child.join(10)
                found.append(Outcome(role, error=f"Died: the process ended with {child.exitcode}"))
        else:
            found.append(Outcome(role, error=f"Hang: no answer in {hang_s:g} s"))
        ours.close()
        child.join(10)
        if child.is_alive() and child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
    return found


def _child(role: str, function: Callable[[], Any], seed: int | None, start: Any, out: Connection) -> None:
    start.wait()
    if seed is not None:
        disturb(seed)
    try:
        outcome = Outcome(role, function())
    except EdgeMtlError as exc:
        outcome = Outcome(role, error=f"{type(exc).__name__}: {exc}", typed=True)
    except BaseException as exc:
        outcome = Outcome(role, error=f"{type(exc).__name__}: {exc}")
    out.send(outcome)
    out.close()
    os._exit(0)  # an engine that is still open is its owner's to free, and nobody waits for that here
