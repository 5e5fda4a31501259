"""Thermal zones of the kernel, /sys/class/thermal: how warm each is, and where it begins to slow the machine down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.bench.sensors.sources import read_number, read_text

__all__ = ["Zone", "thermal_zones"]

_POSSIBLE = range(1, 200_000)
"""Millidegrees that are a temperature; sensors that are switched off say 0 or something wild."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One thermal zone.

    Attributes:
        name: its type, with the folder's name where another zone has that type too.
        celsius: how warm it is.
        slows_at: its lowest passive or hot trip point in degrees Celsius, at which the kernel slows the device down; None
            where it has none.
    """

    name: str
    celsius: float
    slows_at: float | None

    @property
    def slowed(self) -> bool:
        """Whether the zone passed the point at which the kernel slows the device down."""
        return self.slows_at is not None and self.celsius >= self.slows_at


def thermal_zones(root: Path = Path("/")) -> list[Zone]:
    """Zones that tell a possible temperature.

    Args:
        root: where sys/ is; anything but "/" is for tests.
    """
    found: dict[str, Zone] = {}
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = read_number(folder / "temp")
        if value is not None and value in _POSSIBLE:
            kind = read_text(folder / "type") or folder.name
            name = kind if kind not in found else f"{kind} ({folder.name})"
            found[name] = Zone(name, value / 1e3, min(_trip_points(folder), default=None))
    return list(found.values())


def _trip_points(folder: Path) -> Iterator[float]:
    for kind in folder.glob("trip_point_*_type"):
        if read_text(kind) in ("passive", "hot"):
            limit = read_number(kind.with_name(kind.name.removesuffix("type") + "temp"))
            if limit is not None and limit > 0:
                yield limit / 1e3
