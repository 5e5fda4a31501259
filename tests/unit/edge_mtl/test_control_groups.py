from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_mtl.backends.threads import default_threads
from edge_mtl.control_groups import cpu_quota, group_folders, memory_left, memory_limit
from edge_mtl.device import fingerprint

V1 = "sys/fs/cgroup/cpu,cpuacct"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ({f"{V1}/cpu.cfs_quota_us": "100000\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, 1),
        ({f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, None),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 3),
        # Outside a container the group is named, and those above it limit it too.
        (
            {
                "proc/self/cgroup": "0::/robot.slice/node.service\n",
                "sys/fs/cgroup/robot.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/robot.slice/node.service/cpu.max": "400000 100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/docker/ab\n3:cpu,cpuacct:/docker/cd\n",
                f"{V1}/docker/cd/cpu.cfs_quota_us": "300000",
                f"{V1}/docker/cd/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        # Inside a container of version 1 the path is the host's, and what is mounted begins at the container.
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/cd\n",
                f"{V1}/cpu.cfs_quota_us": "100000",
                f"{V1}/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        ({"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
    ],
)
def test_a_quota_is_the_smallest_of_a_groups_and_those_above_it(
    tmp_path: Path, files: dict[str, str], processors: int | None
) -> None:
    assert cpu_quota(machine(tmp_path, files)) == processors


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"sys/fs/cgroup/memory.max": "1000\n"}, 1000),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n"}, 2000),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "70", "sys/fs/cgroup/a/b/memory.max": "max"}, 70),
    ],
)
def test_a_limit_of_memory_is_the_smallest_of_a_groups_and_those_above_it(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    assert memory_limit(machine(tmp_path, files)) == limit


MEMINFO = "MemTotal: 4000 kB\nMemAvailable:    2000 kB\nSwapFree:  500 kB\n"
V2 = {"sys/fs/cgroup/memory.max": "900000\n", "sys/fs/cgroup/memory.current": "500000\n"}
V1_MEMORY = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 2500 * 1024),
        (V2, 400000),
        (V2 | {"proc/meminfo": MEMINFO}, 400000),
        (V2 | {"sys/fs/cgroup/memory.stat": "anon 1\nactive_file 30000\ninactive_file 20000\n"}, 450000),
        (V2 | {"sys/fs/cgroup/memory.current": "950000\n"}, 0),
        (V2 | {"sys/fs/cgroup/memory.max": "max\n", "proc/meminfo": MEMINFO}, 2500 * 1024),
        (
            {
                f"{V1_MEMORY}/memory.limit_in_bytes": "900000",
                f"{V1_MEMORY}/memory.usage_in_bytes": "700000",
                f"{V1_MEMORY}/memory.stat": "inactive_file 2\ntotal_active_file 30000\ntotal_inactive_file 20000\n",
            },
            250000,
        ),
    ],
)
def test_what_is_left_of_the_memory_is_the_least_of_machine_and_groups_with_cached_files(
    tmp_path: Path, files: dict[str, str], left: int | None
) -> None:
    assert memory_left(machine(tmp_path, files)) == left


def test_a_groups_folders_begin_with_its_own(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.stat": ""})
    assert [str(folder.relative_to(root / "sys/fs/cgroup")) for folder in group_folders("cpu", root)] == ["a/b", "a", "."]


def siblings(root: Path, cores: int) -> Path:
    """512 processors, so many to a core that there are `cores` of them."""
    return machine(
        root,
        {f"sys/devices/system/cpu/cpu{index}/topology/thread_siblings_list": str(index % cores) for index in range(512)},
    )


def test_threads_default_to_physical_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_threads() >= 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert default_threads(root=tmp_path) == 8  # nothing says which are siblings
    assert default_threads(root=siblings(tmp_path, 4)) == 4


@pytest.mark.parametrize("version", [1, 2])
def test_the_threads_of_a_runtime_and_the_cores_reported_read_one_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if version == 2:
        files = {"sys/fs/cgroup/cpu.max": "200000 100000"}
    else:
        files = {f"{V1}/cpu.cfs_quota_us": "200000", f"{V1}/cpu.cfs_period_us": "100000"}
    root = machine(siblings(tmp_path, 8), files)
    assert default_threads(root=root) == fingerprint(root=root).cores == 2
