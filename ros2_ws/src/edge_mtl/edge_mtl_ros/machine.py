"""What the device feels: memory of this process, temperature, throttling. Knows files under /proc and /sys, nothing else.

Cheap enough to be read once a second; what a machine does not tell is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MachineState", "machine_state"]


@dataclass(frozen=True, slots=True)
class MachineState:
    """Resident memory in bytes, the hottest zone in degrees Celsius, and whether a zone passed its throttling point."""

    resident_bytes: int | None
    temperature_c: float | None
    throttled: bool


def machine_state(*, root: Path = Path("/")) -> MachineState:
    """Read it now. `root` is where proc/ and sys/ are; anything but "/" is for tests."""
    hottest, throttled = None, False
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        found = _number(zone / "temp")
        if found is None or not 0 < found < 200_000:
            continue
        hottest = found if hottest is None else max(hottest, found)
        limit = _trip_point(zone)
        throttled = throttled or (limit is not None and found >= limit)
    return MachineState(_resident(root), None if hottest is None else hottest / 1000.0, throttled)


def _trip_point(zone: Path) -> int | None:
    """The lowest passive or hot trip point in millidegrees, at which the kernel slows the device down."""
    limits = []
    for kind in zone.glob("trip_point_*_type"):
        if _text(kind) in ("passive", "hot"):
            limit = _number(kind.with_name(kind.name.removesuffix("type") + "temp"))
            if limit is not None and limit > 0:
                limits.append(limit)
    return min(limits, default=None)


def _resident(root: Path) -> int | None:
    for line in _text(root / "proc/self/status").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
