"""The two shapes a sensor of power can have, and its absence. Knows no files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["EnergySource", "PowerSource", "Unavailable", "read_number", "read_text"]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A source that is not here.

    Attributes:
        name: of the source.
        reason: a sentence that says why, and what to do where something can be done.
    """

    name: str
    reason: str


class EnergySource(Protocol):
    """Counts energy by itself: two readings tell what was used between them."""

    @property
    def name(self) -> str: ...
    @property
    def covers(self) -> str:
        """What part of the machine is measured."""
        ...

    def joules(self) -> float:
        """Energy since some moment; only differences mean something. Raises OSError when the sensor has gone."""
        ...


class PowerSource(Protocol):
    """Tells the power of a moment: readings must be added up over time."""

    @property
    def name(self) -> str: ...
    @property
    def covers(self) -> str:
        """What part of the machine is measured."""
        ...

    def watts(self) -> float:
        """Power now. Raises OSError when the sensor has gone."""
        ...


def read_text(path: Path) -> str | None:
    """Content of a small file without the white space around it; None where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    """A whole number in a small file; None where there is none."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
