"""How many worker threads a runtime should get: physical cores this process may use, within its CPU quota."""

from __future__ import annotations

import os
from pathlib import Path

from edge_mtl.control_groups import cpu_quota

__all__ = ["default_threads"]


def default_threads(*, root: Path = Path("/")) -> int:
    """Physical cores among the CPUs of this process's affinity, capped by the quota of its control groups; at least 1.

    Args:
        root: where proc/ and sys/ are; anything but "/" is for tests.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(root / "sys/devices/system/cpu" / f"cpu{index}" / "topology", index) for index in allowed}
    return max(1, min(len(cores), cpu_quota(root) or len(cores)))


def _siblings(topology: Path, index: int) -> str:
    for name in ("core_cpus_list", "thread_siblings_list"):
        try:
            return (topology / name).read_text().strip()
        except OSError:
            continue
    return str(index)
