"""What the device feels: memory of this process here and on a GPU, temperature, throttling.

Knows files under /proc and /sys, and NVML where it is installed. What cannot be read is None.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.bench.sensors.find import gpu
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.sensors.sources import Unavailable, read_text
from edge_mtl.bench.sensors.thermal import thermal_zones

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
        gpu_bytes: memory of a GPU that this process uses; where the driver does not separate processes, as in a container,
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
        """The newest reading; `on_gpu`: the engine runs on a GPU, which is asked then too."""
        now_s = time.monotonic()
        if now_s - self._read_s > _PERIOD_S:
            self._read_s, self._state = now_s, self._read(on_gpu)
        return self._state

    def _read(self, on_gpu: bool) -> MachineState:
        zones = thermal_zones(self._root)
        hottest_c, throttled = max((zone.celsius for zone in zones), default=None), any(zone.slowed for zone in zones)
        resident = _resident(self._root)
        if on_gpu and self._gpu is None:
            self._gpu = self._find_gpu()
        if not on_gpu or not isinstance(self._gpu, Nvml):
            return MachineState(resident, hottest_c, throttled)
        reading = self._gpu.state()
        celsius = [value for value in (hottest_c, reading.get("temperature_c")) if value is not None]
        throttled = throttled or any(reason in _TOO_HOT for reason in reading.get("slowed_by", ()))
        own = self._gpu.memory_bytes()
        return MachineState(resident, max(celsius, default=None), throttled, self._gpu.used_bytes() if own is None else own)


def _resident(root: Path) -> int | None:
    for line in (read_text(root / "proc/self/status") or "").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None
