"""A stand-in for pynvml: one GPU."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

__all__ = ["Library"]


class Library:
    """As much of pynvml as a GPU answers; `silent` questions raise, as on a Jetson."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksThrottleReasonGpuIdle = 1  # noqa: N815
    nvmlClocksThrottleReasonSwPowerCap = 4  # noqa: N815
    nvmlClocksThrottleReasonSwThermalSlowdown = 32  # noqa: N815

    def __init__(self, *, silent: tuple[str, ...] = ()) -> None:
        self.silent = silent
        self.answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetName": b"Example GPU",
            "nvmlDeviceGetTotalEnergyConsumption": 2500,
            "nvmlDeviceGetPowerUsage": 42_000,
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=os.getpid(), usedGpuMemory=1 << 20)],
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=5 << 20),
            "nvmlDeviceGetClockInfo": 1500,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPerformanceState": 0,
            "nvmlDeviceGetEnforcedPowerLimit": 300_000,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 1 | 4,
        }

    def __getattr__(self, name: str) -> Any:
        if name not in self.answers:
            raise AttributeError(name)

        def answer(*_: object) -> Any:
            if name in self.silent:
                raise RuntimeError("Not Supported")
            return self.answers[name]

        return answer
