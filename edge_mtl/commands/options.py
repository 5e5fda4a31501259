"""Which engine a command is asked to use. Knows the options; knows nothing about what they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["EngineOptions"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The options that several commands share: where the bundle is, and what to run it with."""

    bundle: Path | None
    backend: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    device: str = "auto"
