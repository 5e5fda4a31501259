"""What the device feels: memory of this process here and on a GPU, temperature, throttling.

Knows files under /proc and /sys, and NVML where it is installed. What a machine does not tell is None.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.bench.sensors.find import gpu
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.sensors.sources import Unavailable

__all__ = ["Machine", "MachineState"]

_PERIOD_S = 1.0
_TOO_HOT = ("thermal slowdown", "hardware thermal slowdown", "hardware slowdown")
"""Of what slows a GPU down; many run at their power limit all day."""


@dataclass(frozen=True, slots=True)
class MachineState:
    """One reading.

    Attributes:
        resident_bytes: memory of this process.
        temperature_c: of the hottest zone, the GPU in use included, in degrees Celsius.
        throttled: a zone passed its throttling point, or heat slows the GPU down.
        gpu_bytes: memory of a GPU that this process uses; where the driver does not tell processes apart, as in a container,
            what all of them use.
    """

    resident_bytes: int | None
    temperature_c: float | None
    throttled: bool
    gpu_bytes: int | None = None


class Machine:
    """Reads the state at most once a second; one thread asks.

    Args:
        root: where proc/ and sys/ are; anything but "/" is for tests.
        find_gpu: finds the GPU, once an engine runs on one.
    """

    def __init__(self, *, root: Path = Path("/"), find_gpu: Callable[[], Nvml | Unavailable] = gpu) -> None:
        self._root, self._find_gpu = root, find_gpu
        self._gpu: Nvml | Unavailable | None = None
        self._read_s = float("-inf")
        self._state = MachineState(None, None, False)

    def state(self, *, on_gpu: bool = False) -> MachineState:
        """The newest reading; `on_gpu` tells whether the engine runs on a GPU, which is asked then too."""
        now_s = time.monotonic()
        if now_s - self._read_s > _PERIOD_S:
            self._read_s, self._state = now_s, self._read(on_gpu)
        return self._state

    def _read(self, on_gpu: bool) -> MachineState:
        hottest_c, throttled = _zones(self._root)
        resident = _resident(self._root)
        if on_gpu and self._gpu is None:
            self._gpu = self._find_gpu()
        if not on_gpu or not isinstance(self._gpu, Nvml):
            return MachineState(resident, hottest_c, throttled)
        told = self._gpu.state()
        celsius = [value for value in (hottest_c, told.get("temperature_c")) if value is not None]
        throttled = throttled or any(reason in _TOO_HOT for reason in told.get("slowed_by", ()))
        own = self._gpu.memory_bytes()
        return MachineState(resident, max(celsius, default=None), throttled, self._gpu.used_bytes() if own is None else own)


def _zones(root: Path) -> tuple[float | None, bool]:
    """The hottest thermal zone in degrees Celsius, and whether one passed its throttling point."""
    hottest, throttled = None, False
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        found = _number(zone / "temp")
        if found is None or not 0 < found < 200_000:
            continue
        hottest = found if hottest is None else max(hottest, found)
        limit = _trip_point(zone)
        throttled = throttled or (limit is not None and found >= limit)
    return None if hottest is None else hottest / 1000.0, throttled


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
