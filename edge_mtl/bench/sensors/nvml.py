"""An NVIDIA GPU through NVML (package nvidia-ml-py, module pynvml). Knows the library given to it; imports nothing.

On a Jetson NVML answers "not supported" to nearly everything: each question is asked by itself and may have no answer.
Source: NVIDIA Management Library reference manual.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from edge_mtl.bench.sensors.sources import Unavailable

__all__ = ["Nvml"]

_NAME = "NVML"
_SLOWED = {
    "nvmlClocksEventReasonSwPowerCap": "power cap",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "thermal slowdown",
    "nvmlClocksThrottleReasonSwPowerCap": "power cap",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "thermal slowdown",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "hardware thermal slowdown",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}
"""Why a GPU may run slower than it could; being idle is no such reason. Newer versions of the library renamed some."""


_HELD_BACK = {"NVML_PERF_POLICY_POWER": "its power limit", "NVML_PERF_POLICY_THERMAL": "heat"}
"""What the driver counts the time of."""


class Nvml:
    """One GPU.

    Args:
        library: the module pynvml, initialised.
        index: of the GPU.
    """

    name = _NAME

    def __init__(self, library: Any, index: int) -> None:
        self._library = library
        self._handle = library.nvmlDeviceGetHandleByIndex(index)
        found = library.nvmlDeviceGetName(self._handle)
        self.model = found.decode() if isinstance(found, bytes) else str(found)
        self.covers = f"GPU {index} ({self.model})"

    @classmethod
    def find(cls, library: Any, *, index: int = 0) -> Nvml | Unavailable:
        """GPU `index` of `library`, or why there is none."""
        try:
            library.nvmlInit()
            return cls(library, index)
        except Exception as exc:  # the library's errors are of its own tree
            return Unavailable(_NAME, f"no NVIDIA GPU answers: {exc}")

    @property
    def counts_energy(self) -> bool:
        """Whether the GPU has an energy counter (Volta and later)."""
        return self._ask("nvmlDeviceGetTotalEnergyConsumption") is not None

    def joules(self) -> float:
        """See `EnergySource.joules`."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        if millijoules is None:
            raise OSError(f"{self.covers} has no energy counter")
        return float(millijoules) / 1e3

    def watts(self) -> float:
        """See `PowerSource.watts`."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        if milliwatts is None:
            raise OSError(f"{self.covers} does not tell its power")
        return float(milliwatts) / 1e3

    def memory_bytes(self, process: int | None = None) -> int | None:
        """Device memory of a process (this one by default); None where the driver does not tell."""
        wanted = os.getpid() if process is None else process
        for entry in self._ask("nvmlDeviceGetComputeRunningProcesses") or ():
            if entry.pid == wanted and entry.usedGpuMemory is not None:
                return int(entry.usedGpuMemory)
        return None

    def used_bytes(self) -> int | None:
        """Device memory in use by everyone; None where the driver does not tell."""
        found = self._ask("nvmlDeviceGetMemoryInfo")
        return None if found is None else int(found.used)

    def state(self) -> dict[str, Any]:
        """Clocks in MHz, temperature, performance state, power limit, reasons of slowing down, and seconds since the driver was
        loaded in which the GPU was held back, by reason; as far as known."""
        library = self._library
        clock = getattr(library, "NVML_CLOCK_SM", 1), getattr(library, "NVML_CLOCK_MEM", 2)
        limit = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        found = {
            "model": self.model,
            "sm_mhz": self._ask("nvmlDeviceGetClockInfo", clock[0]),
            "sm_max_mhz": self._ask("nvmlDeviceGetMaxClockInfo", clock[0]),
            "memory_mhz": self._ask("nvmlDeviceGetClockInfo", clock[1]),
            "temperature_c": self._ask("nvmlDeviceGetTemperature", getattr(library, "NVML_TEMPERATURE_GPU", 0)),
            "performance_state": self._ask("nvmlDeviceGetPerformanceState"),
            "power_limit_w": None if limit is None else limit / 1e3,
            "slowed_by": list(self.slowed_by()) or None,
            "held_back_s": self._held_back_s() or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def slowed_by(self) -> tuple[str, ...]:
        """Why the GPU runs slower than it could at this moment; empty when nothing holds it back or it does not tell."""
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return ()
        reasons = (text for name, text in _SLOWED.items() if int(bits) & int(getattr(self._library, name, 0)))
        return tuple(dict.fromkeys(reasons))

    def _held_back_s(self) -> dict[str, float]:
        found = {}
        for name, text in _HELD_BACK.items():
            counted = self._ask("nvmlDeviceGetViolationStatus", getattr(self._library, name, -1))
            if counted is not None:
                found[text] = int(counted.violationTime) / 1e9
        return found

    def _ask(self, question: str, *arguments: object) -> Any:
        call: Callable[..., Any] | None = getattr(self._library, question, None)
        if call is None:
            return None
        try:
            return call(self._handle, *arguments)
        except Exception:  # "not supported" and the like: no answer is an answer here
            return None
