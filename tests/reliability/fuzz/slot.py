"""What a worker is doing at this moment, in a file that two processes map: it is there when the worker is not any more."""

from __future__ import annotations

import mmap
import struct
import time
from enum import IntEnum
from pathlib import Path

__all__ = ["MAX_BYTES", "Phase", "Slot"]

MAX_BYTES = 64 << 20
"""Of one mutant. The file is sparse: what is not written takes no room."""

_HEAD = struct.Struct("=6Q")
_ROOM = 4096


class Phase(IntEnum):
    """Where a worker is."""

    OPENING = 0
    IDLE = 1
    READING = 2
    MINIMISING = 3
    DONE = 4


class Slot:
    """One worker's place: its phase, since when, how many mutants were read and refused, and the mutant that is being read.

    Args:
        path: of the file; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as stream:
            stream.truncate(_ROOM + MAX_BYTES)
            self._map = mmap.mmap(stream.fileno(), _ROOM + MAX_BYTES)
        self.mutants, self.refused = self._values()[2:4]

    def _values(self) -> tuple[int, ...]:
        return _HEAD.unpack_from(self._map)

    def _write(self, phase: Phase, size: int) -> None:
        """In one copy: `pack_into` would let the other process see zeros for a moment."""
        self._map[: _HEAD.size] = _HEAD.pack(phase, time.monotonic_ns(), self.mutants, self.refused, size, 0)

    def enter(self, phase: Phase) -> None:
        """Say what the worker does from now on."""
        size = self._values()[4]
        self._write(phase, size)

    def reading(self, mutant: bytes) -> None:
        """Keep `mutant`, then say that it is being read."""
        kept = mutant[:MAX_BYTES]
        self._map[_ROOM : _ROOM + len(kept)] = kept
        self._write(Phase.READING, len(kept))

    @property
    def phase(self) -> Phase:
        """Where the worker is, or was when it died."""
        return Phase(self._values()[0])

    @property
    def since(self) -> int:
        """When it came there, in nanoseconds of the monotonic clock."""
        return self._values()[1]

    @property
    def seconds(self) -> float:
        """How long it is there."""
        return (time.monotonic_ns() - self._values()[1]) / 1e9

    @property
    def counts(self) -> tuple[int, int]:
        """Mutants that were read, and how many of them were refused by an EdgeMtlError."""
        return self._values()[2:4]  # type: ignore[return-value]

    @property
    def mutant(self) -> bytes:
        """The mutant that is being read, or was when the worker died."""
        return bytes(self._map[_ROOM : _ROOM + self._values()[4]])
