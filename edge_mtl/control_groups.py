"""What the control groups of this process allow, in both versions of cgroups: processors and memory.

A limit may stand in the process's own group or in any above it; the smallest counts. Inside a container the groups begin at its
own, which is what /sys/fs/cgroup shows; outside, /proc/self/cgroup names the group, such as a slice of systemd.

Source: Linux kernel documentation, admin-guide/cgroup-v2 (cpu.max, memory.max, memory.current, memory.stat) and
admin-guide/cgroup-v1 (cpu.cfs_quota_us, cpu.cfs_period_us, memory.limit_in_bytes, memory.usage_in_bytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["cpu_quota", "group_folders", "memory_left", "memory_limit"]

_GROUPS = "sys/fs/cgroup"
_UNLIMITED = 1 << 60
"""Limits of memory above this mean that there is none: version 1 writes a huge number."""


def cpu_quota(root: Path = Path("/")) -> int | None:
    """Whole processors that this process may use, rounded up; None without a limit.

    Args:
        root: where proc/ and sys/ are; anything but "/" is for tests.
    """
    quotas = []
    for folder in group_folders("cpu", root):
        fields = _text(folder / "cpu.max").split() or [
            _text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
        try:
            quota, period = int(fields[0]), int(fields[1])
        except (ValueError, IndexError):  # "max", or no such file
            continue
        if quota > 0 and period > 0:
            quotas.append(-(-quota // period))
    return min(quotas, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that this process and those beside it in its group may use; None without a limit."""
    return min((limit for _, limit in _memory_limits(root)), default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: of the machine, its swap included, and of every group; None where nothing says.

    Cached files count as left: the kernel drops them before it kills.
    """
    machine = dict(line.split(":", 1) for line in _text(root / "proc/meminfo").splitlines() if ":" in line)
    found = []
    if "MemAvailable" in machine:
        found.append(sum(_first_number(machine.get(name, "")) for name in ("MemAvailable", "SwapFree")) << 10)
    for folder, limit in _memory_limits(root):
        usage = _text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes")
        if usage.strip():
            lines = [line.split() for line in _text(folder / "memory.stat").splitlines()]
            caches = {name: _first_number(value) for name, value in (line for line in lines if len(line) == 2)}
            prefix = "total_" if "total_active_file" in caches else ""  # version 1: with the groups below
            cached = sum(caches.get(f"{prefix}{name}", 0) for name in ("active_file", "inactive_file"))
            found.append(max(0, limit - _first_number(usage) + cached))
    return min(found, default=None)


def _memory_limits(root: Path) -> Iterator[tuple[Path, int]]:
    """Groups with a limit of memory, and that limit in bytes."""
    for folder in group_folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(folder / name).strip()
            if text.isdigit() and 0 < int(text) < _UNLIMITED:
                yield folder, int(text)


def _first_number(text: str) -> int:
    fields = text.split()
    return int(fields[0]) if fields and fields[0].isdigit() else 0


def group_folders(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """The folders of this process's groups that have files of a controller, from its own up to the topmost.

    Args:
        controller: "cpu" or "memory".
    """
    mounted = root / _GROUPS
    unified, own = PurePosixPath("/"), PurePosixPath("/")
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            unified = PurePosixPath(path or "/")
        elif controller in controllers.split(","):
            own = PurePosixPath(path or "/")
    yield from _upwards(mounted, unified)
    for name in _mounts_of(mounted, controller):
        yield from _upwards(name, own)


def _mounts_of(mounted: Path, controller: str) -> list[Path]:
    """Where version 1 has a controller: in a folder of its name, or of several names with commas between."""
    single = mounted / controller
    if single.is_dir():
        return [single]
    try:
        return [folder for folder in mounted.iterdir() if controller in folder.name.split(",") and folder.is_dir()]
    except OSError:
        return []


def _upwards(mounted: Path, group: PurePosixPath) -> Iterator[Path]:
    """A group's folder and those above it; one that lies outside what is mounted here has no folder, and is left out."""
    parts = [part for part in group.parts if part != "/"]
    if ".." in parts:
        parts = []
    for count in range(len(parts), -1, -1):
        folder = mounted.joinpath(*parts[:count])
        if folder.is_dir():
            yield folder


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
