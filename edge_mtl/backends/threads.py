"""How many worker threads a runtime should get: physical cores this process may use, within its CPU quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["default_threads"]

_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def default_threads(*, cpus: Path = _CPUS, quota: Path = _QUOTA) -> int:
    """Physical cores among the CPUs of this process's affinity, capped by the control group's quota; at least 1."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpus / f"cpu{index}" / "topology", index) for index in allowed}
    return max(1, min(len(cores), _quota_cores(quota)))


def _siblings(topology: Path, index: int) -> str:
    for name in ("core_cpus_list", "thread_siblings_list"):
        try:
            return (topology / name).read_text().strip()
        except OSError:
            continue
    return str(index)


def _quota_cores(quota: Path) -> int:
    try:
        limit, period = quota.read_text().split()[:2]
        return math.ceil(int(limit) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no control group, or "max"
        return 1 << 16
