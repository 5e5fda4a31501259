"""In what state a machine is: power mode, clocks, heat, load, and what held it back meanwhile.

Read before and after a measurement: clocks alone say little, but a counter of throttling that moved says all. Sources:
Linux kernel documentation, admin-guide/pm/cpufreq, admin-guide/cgroup-v2, thermal/sysfs-api, filesystems/proc; NVIDIA
Jetson Linux Developer Guide, "nvpmodel" and over-current events. Knows files; measures nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_mtl.bench.sensors.sources import read_number, read_text
from edge_mtl.bench.sensors.thermal import thermal_zones
from edge_mtl.control_groups import group_folders

__all__ = ["MachineState", "Shares", "processor_shares", "read_state", "throttling"]

_HOT_C = 95.0
_STOPPED = "container stopped, its quota used up"
_STOLEN_SHARE = 0.02
_OTHERS_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class MachineState:
    """One look at the machine; what it does not tell is None or empty.

    Attributes:
        power_mode: of nvpmodel on a Jetson, else the firmware's platform profile.
        governor: of the processors' clocks.
        clocks_mhz: (lowest, highest) over the processors now.
        limit_mhz: the highest clock that the system allows.
        temperatures_c: by thermal zone.
        gpu_clocks_mhz: by name of the device, of GPUs that devfreq knows (Jetson).
        throttled: counters of throttling by name: thermal events of the processors, over-current events of a Jetson, periods in
            which a container was stopped because its quota was used up.
        load: busy processes, averaged over a minute.
        cpu_ticks, idle_ticks, stolen_ticks: time of all processors since start, the part in which they had nothing to do, and
            the part that the hypervisor gave to others.
        own_ticks: time of processors that this process took, its ended children included.
        gpu: what NVML tells.
    """

    power_mode: str | None = None
    governor: str | None = None
    clocks_mhz: tuple[float, float] | None = None
    limit_mhz: float | None = None
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    gpu_clocks_mhz: Mapping[str, float] = field(default_factory=dict)
    throttled: Mapping[str, int] = field(default_factory=dict)
    load: float | None = None
    cpu_ticks: int | None = None
    idle_ticks: int | None = None
    stolen_ticks: int | None = None
    own_ticks: int | None = None
    gpu: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {}, ())}


def read_state(*, root: Path = Path("/"), gpu: Mapping[str, Any] | None = None) -> MachineState:
    """Look at the machine.

    Args:
        root: where proc/, sys/ and var/ are; anything but "/" is for tests.
        gpu: from `Nvml.state`, where there is one.
    """
    policies = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    governors = sorted({text for folder in policies if (text := read_text(folder / "scaling_governor"))})
    clocks = [value / 1e3 for folder in policies if (value := read_number(folder / "scaling_cur_freq"))]
    limits = [value / 1e3 for folder in policies if (value := read_number(folder / "scaling_max_freq"))]
    return MachineState(
        power_mode=_power_mode(root),
        governor=", ".join(governors) or None,
        clocks_mhz=(min(clocks), max(clocks)) if clocks else None,
        limit_mhz=max(limits) if limits else None,
        temperatures_c={zone.name: zone.celsius for zone in thermal_zones(root)},
        gpu_clocks_mhz=_gpu_clocks(root / "sys/class/devfreq"),
        throttled=_throttled(root),
        load=_load(root / "proc/loadavg"),
        gpu={} if gpu is None else gpu,
        **_ticks(root / "proc/stat"),
    )


def throttling(before: MachineState, after: MachineState) -> tuple[str, ...]:
    """What held the machine back between two looks, a sentence each; empty when nothing is known to have."""
    found = []
    for name, count in after.throttled.items():
        moved = count - before.throttled.get(name, 0)
        if moved > 0:
            found.append(f"{name}: {moved} times while measuring")
    for zone, degrees in after.temperatures_c.items():
        if degrees >= _HOT_C:
            found.append(f"thermal zone {zone} reached {degrees:.0f} °C")
    if reasons := after.gpu.get("slowed_by"):
        found.append(f"the GPU was slowed by {', '.join(reasons)}")
    for reason, seconds in after.gpu.get("held_back_s", {}).items():
        longer = seconds - before.gpu.get("held_back_s", {}).get(reason, seconds)
        if longer > 0:
            found.append(f"the GPU was held back by {reason} for {longer:.2g} s")
    shares = processor_shares(before.to_dict(), after.to_dict())
    if shares.stolen is not None and shares.stolen > _STOLEN_SHARE:
        found.append(shares.describe_stolen())
    if shares.others is not None and shares.others > _OTHERS_SHARE:
        found.append(shares.describe_others())
    if before.power_mode != after.power_mode or before.governor != after.governor:
        found.append("the power mode changed while measuring")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Shares:
    """Who had the processors between two looks, as shares of their time; None where it is not known.

    Attributes:
        stolen: other guests of the hypervisor.
        others: other processes of this machine.
        idle: nobody.
    """

    stolen: float | None = None
    others: float | None = None
    idle: float | None = None

    def describe_stolen(self) -> str:
        """A sentence."""
        return f"the hypervisor gave {self.stolen:.0%} of the processors' time to others"

    def describe_others(self) -> str:
        """A sentence."""
        return f"other processes took {self.others:.0%} of the processors' time"


def processor_shares(before: Mapping[str, Any], after: Mapping[str, Any]) -> Shares:
    """From two looks, as `to_dict` gives them."""
    total, idle, stolen, own = (
        _moved(before, after, name) for name in ("cpu_ticks", "idle_ticks", "stolen_ticks", "own_ticks")
    )
    if not total or stolen is None:
        return Shares()
    if idle is None or own is None:
        return Shares(stolen / total)
    return Shares(stolen / total, max(0.0, (total - idle - stolen - own) / total), idle / total)


def _moved(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> int | None:
    first, second = before.get(name), after.get(name)
    return second - first if isinstance(first, int) and isinstance(second, int) and second >= first else None


def _power_mode(root: Path) -> str | None:
    status = read_text(root / "var/lib/nvpmodel/status")  # "pmode:0002"
    if status is not None:
        number = status.partition(":")[2].split()[0].lstrip("0") if ":" in status else status
        name = _nvpmodel_name(root / "etc/nvpmodel.conf", number or "0")
        return f"nvpmodel {number or '0'}" + (f" ({name})" if name else "")
    return read_text(root / "sys/firmware/acpi/platform_profile")


def _nvpmodel_name(path: Path, number: str) -> str | None:
    """The name in a line such as `< POWER_MODEL ID=0 NAME=MAXN >`."""
    for line in (read_text(path) or "").splitlines():
        words = line.replace("<", " ").replace(">", " ").split()
        if words[:1] == ["POWER_MODEL"] and f"ID={number}" in words:
            return next((word.removeprefix("NAME=") for word in words if word.startswith("NAME=")), None)
    return None


def _gpu_clocks(folder: Path) -> dict[str, float]:
    found = {}
    for device in sorted(folder.glob("*")):
        value = read_number(device / "cur_freq")
        if value is not None and any(word in device.name for word in ("gpu", "gv11b", "ga10b", "gp10b", "gm20b", "nvgpu")):
            found[device.name] = value / 1e6
    return found


def _throttled(root: Path) -> dict[str, int]:
    found = {}
    cores = root / "sys/devices/system/cpu"
    for kind in ("core", "package"):
        counts = [read_number(path) for path in cores.glob(f"cpu[0-9]*/thermal_throttle/{kind}_throttle_count")]
        known = [count for count in counts if count is not None]
        if known:
            found[f"thermal throttling ({kind})"] = sum(known)
    for path in sorted((root / "sys/class/hwmon").glob("hwmon*/oc[0-9]*_event_cnt")):
        number = read_number(path)
        if number is not None:
            found[f"over-current ({path.name.partition('_')[0]})"] = int(number)
    for folder in group_folders("cpu", root):
        for line in (read_text(folder / "cpu.stat") or "").splitlines():
            key, _, value = line.partition(" ")
            if key == "nr_throttled" and value.isdigit():
                found[_STOPPED] = found.get(_STOPPED, 0) + int(value)
    return found


def _load(path: Path) -> float | None:
    words = (read_text(path) or "").split()
    try:
        return float(words[0]) if words else (os.getloadavg()[0] if hasattr(os, "getloadavg") else None)
    except (ValueError, OSError):
        return None


def _ticks(path: Path) -> dict[str, int]:
    """Of the first line: user nice system idle iowait irq softirq steal guest guest_nice."""
    words = (read_text(path) or "").splitlines()[:1]
    numbers = words[0].split()[1:] if words and words[0].startswith("cpu ") else []
    if len(numbers) < 8 or not all(number.isdigit() for number in numbers):
        return {}
    ticks = [int(number) for number in numbers[:8]]
    own = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")
    return {"cpu_ticks": sum(ticks), "idle_ticks": ticks[3] + ticks[4], "stolen_ticks": ticks[7], "own_ticks": round(own)}
