"""Positive controls: leaks that are put into the engine on purpose, which the same rules must find."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Literal

from edge_mtl import Engine

__all__ = ["LEAKS", "Leak", "leaking"]

Work = Literal["frames", "cycles"]


@dataclass(frozen=True, slots=True)
class Leak:
    """What is kept for ever with every `every`-th frame or cycle, and how long a control lets it run."""

    title: str
    every: int
    run: int


LEAKS: dict[Work, dict[str, Leak]] = {
    "frames": {
        "bytes": Leak("100 B a frame", 1, 15_000),
        "descriptors": Leak("a descriptor in 200 frames", 200, 4_500),
        "threads": Leak("a thread in 200 frames", 200, 4_500),
        "shared": Leak("a block in /dev/shm in 200 frames", 200, 4_500),
    },
    "cycles": {
        "bytes": Leak("20 kB an engine", 1, 200),
        "descriptors": Leak("a descriptor an engine", 1, 100),
        "threads": Leak("a thread an engine", 1, 100),
        "shared": Leak("a block in /dev/shm an engine", 1, 100),
    },
}
_SIZE = {"frames": 100 - 33, "cycles": 20_000}
"""Of the bytes that are kept; an object of bytes is 33 larger."""


@contextmanager
def leaking(kind: str, work: Work) -> Iterator[None]:
    """Let every engine leak one of `LEAKS` with what it finishes, or when it is closed; all is freed when the block ends."""
    kept: list[Any] = []
    over = threading.Event()

    def thread() -> threading.Thread:
        made = threading.Thread(target=over.wait, daemon=True)
        made.start()
        return made

    def block() -> SharedMemory:
        made = SharedMemory(create=True, size=4096)
        made.buf[0] = 1
        return made

    make: dict[str, Callable[[], Any]] = {
        "bytes": lambda: bytes(_SIZE[work]),
        "descriptors": lambda: os.open(os.devnull, os.O_RDONLY),
        "threads": thread,
        "shared": block,
    }
    name = "_finish" if work == "frames" else "close"
    original, done = getattr(Engine, name), [0]

    def leaks(self: Engine, *arguments: Any, **options: Any) -> Any:
        done[0] += 1
        if done[0] % LEAKS[work][kind].every == 0:
            kept.append(make[kind]())
        return original(self, *arguments, **options)

    setattr(Engine, name, leaks)
    try:
        yield
    finally:
        setattr(Engine, name, original)
        over.set()
        for each in kept:
            if isinstance(each, int):
                os.close(each)
            elif isinstance(each, threading.Thread):
                each.join()
            elif isinstance(each, SharedMemory):
                each.close()
                each.unlink()
