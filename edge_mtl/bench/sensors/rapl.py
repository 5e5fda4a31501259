"""Energy of the processor package from RAPL, as Linux shows it under /sys/class/powercap.

Source: Linux kernel documentation, power/powercap. Knows counters that wrap around; knows nothing about who used the energy.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge_mtl.bench.sensors.sources import Unavailable, read_number, read_text

__all__ = ["Rapl"]

_NAME = "RAPL"


class Rapl:
    """The sum of all packages and of memory where it is counted apart."""

    name = _NAME

    def __init__(self, domains: dict[Path, str]) -> None:
        self._domains = domains
        self._last = {folder: self._read(folder) for folder in domains}
        self._total_uj = 0
        self.covers = " and ".join(dict.fromkeys(domains.values()))

    @classmethod
    def find(cls, root: Path = Path("/sys/class/powercap")) -> Rapl | Unavailable:
        """The counters under `root`, or why there are none."""
        if not root.is_dir():
            return Unavailable(_NAME, f"{root} does not exist: no RAPL in this kernel, processor or virtual machine")
        domains = {}
        for folder in sorted(root.glob("*rapl*:*")):
            label = read_text(folder / "name") or ""
            top = folder.name.count(":") == 1
            # "core" and "uncore" are parts of their package; "psys" holds the package too.
            if (top and label.startswith("package")) or (not top and label == "dram"):
                domains[folder] = "memory" if label == "dram" else "processor package"
        if not domains:
            return Unavailable(_NAME, f"{root} has no counter of a processor package")
        locked = [folder for folder in domains if not os.access(folder / "energy_uj", os.R_OK)]
        if locked:
            return Unavailable(_NAME, f"{locked[0] / 'energy_uj'} may only be read by root: run the benchmark as root")
        try:
            return cls(domains)
        except OSError as exc:
            return Unavailable(_NAME, f"the counters cannot be read ({exc})")

    def joules(self) -> float:
        """See `EnergySource.joules`. Call it at least once a minute: a counter wraps around within minutes at full load."""
        for folder in self._domains:
            now, before = self._read(folder), self._last[folder]
            if now < before:
                limit = read_number(folder / "max_energy_range_uj")
                if limit is None:
                    raise OSError(f"{folder} wrapped around and does not say at what value")
                now_since = limit - before + now
            else:
                now_since = now - before
            self._total_uj += now_since
            self._last[folder] = now
        return self._total_uj / 1e6

    @staticmethod
    def _read(folder: Path) -> int:
        value = read_number(folder / "energy_uj")
        if value is None:
            raise OSError(f"{folder / 'energy_uj'} cannot be read")
        return value
