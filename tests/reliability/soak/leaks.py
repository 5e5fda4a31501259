"""Positive controls: leaks that are put into the engine on purpose, which the same rules must find."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from edge_mtl import Engine

__all__ = ["LEAKS", "leaking"]

EVERY = 200
"""Frames between two leaks of what is no memory."""

LEAKS = {
    "bytes": "100 B a frame",
    "descriptors": f"one descriptor in {EVERY} frames",
    "threads": f"one thread in {EVERY} frames",
    "shared": f"one block in /dev/shm in {EVERY} frames",
}


@contextmanager
def leaking(kind: str) -> Iterator[None]:
    """Let every engine leak one of `LEAKS` with each frame that it finishes; all is freed when the block ends."""
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
        "bytes": lambda: bytes(67),  # an object of 100 bytes
        "descriptors": lambda: os.open(os.devnull, os.O_RDONLY),
        "threads": thread,
        "shared": block,
    }
    finish, done = Engine._finish, [0]

    def leaks(self: Engine, *arguments: Any, **options: Any) -> Any:
        done[0] += 1
        if kind == "bytes" or done[0] % EVERY == 0:
            kept.append(make[kind]())
        return finish(self, *arguments, **options)

    Engine._finish = leaks  # type: ignore[method-assign]
    try:
        yield
    finally:
        Engine._finish = finish  # type: ignore[method-assign]
        over.set()
        for each in kept:
            if isinstance(each, int):
                os.close(each)
            elif isinstance(each, threading.Thread):
                each.join()
            elif isinstance(each, SharedMemory):
                each.close()
                each.unlink()
