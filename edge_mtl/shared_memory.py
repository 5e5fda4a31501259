"""Shared memory of this machine or container: its size, what is free of it, and how a container gets more."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDER", "MORE", "SharedMemory", "shared_memory"]

FOLDER = Path("/dev/shm")  # noqa: S108
MORE = "start the container with --shm-size=2g or --ipc=host"
"""What to do where it is too small: Docker gives a container 64 MB."""


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Size of /dev/shm and what is free of it, bytes."""

    size: int
    free: int

    def __str__(self) -> str:
        return f"{FOLDER} has {self.free / 1e6:.0f} MB free of {self.size / 1e6:.0f} MB"


def shared_memory(folder: Path = FOLDER) -> SharedMemory | None:
    """What is there of /dev/shm; None where there is none, or it cannot be written to."""
    try:
        facts = os.statvfs(folder)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    return SharedMemory(facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize)
