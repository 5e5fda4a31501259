"""What this machine tells about power, energy, clocks, heat and memory. Each source is a small class over paths or a
library given to it; a source that is not here is an `Unavailable` with the reason, never a zero."""

from __future__ import annotations

from edge_mtl.bench.sensors.find import energy_sources, gpu
from edge_mtl.bench.sensors.sources import EnergySource, PowerSource, Unavailable
from edge_mtl.bench.sensors.state import MachineState, read_state, throttling

__all__ = [
    "EnergySource",
    "MachineState",
    "PowerSource",
    "Unavailable",
    "energy_sources",
    "gpu",
    "read_state",
    "throttling",
]
