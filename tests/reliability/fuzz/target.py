"""What is fuzzed: one reader of input from outside, with the seeds that mutants are made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        name: of its corpus and its finds.
        gate: the gate it belongs to: "fuzz-texts", "fuzz-graphs", "fuzz-media" or "fuzz-commands".
        open: called once in a process with a scratch folder; gives the function that reads one mutant. That function returns,
            or raises an `EdgeMtlError`; anything else is a violation.
        seeds: valid inputs, made by this project's own writers; called with a scratch folder.
        mutate: a structure-aware mutation of one input (and a second one to take parts of); None: bytes are mutated, guided by
            coverage.
        native: the work is done in native code, where coverage of Python guides nothing.
    """

    name: str
    gate: str
    open: Callable[[Path], Callable[[bytes], None]]
    seeds: Callable[[Path], Sequence[bytes]]
    mutate: Callable[[bytes, bytes, random.Random], bytes] | None = None
    native: bool = False
