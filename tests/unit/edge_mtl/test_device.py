"""The fingerprint of a machine, read from /proc and /sys."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edge_mtl import device
from edge_mtl.device import DeviceFingerprint, fingerprint

X86 = "processor\t: 0\nmodel name\t: Example CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_int8 amx_bf16\n\nprocessor\t: 1\n"
ARM = "processor : 0\nFeatures : fp asimd asimddp asimdhp\nCPU implementer : 0x41\nCPU part : 0xd42\n"


@pytest.fixture(autouse=True)
def every_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is denied to the machines of these tests."""
    monkeypatch.delenv(device.DISABLED_FEATURES, raising=False)


def machine(root: Path, files: dict[str, str]) -> DeviceFingerprint:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return fingerprint(root=root)


def test_an_x86_processor_is_described(tmp_path: Path) -> None:
    found = machine(tmp_path, {"proc/cpuinfo": X86})
    assert found.cpu_model == "Example CPU"
    assert found.isa == ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")
    assert found.has_vnni
    assert found.has_bf16
    assert not found.has_fp16
    assert "Example CPU" in found.describe()


def test_an_arm_processor_is_described(tmp_path: Path) -> None:
    found = machine(tmp_path, {"proc/cpuinfo": ARM})
    assert found.cpu_model == "ARM implementer 0x41 part 0xd42"
    assert found.isa == ("asimd", "asimdhp", "asimddp")
    assert found.has_vnni
    assert found.has_fp16
    assert not found.has_bf16


def test_a_machine_without_proc_is_still_described(tmp_path: Path) -> None:
    found = fingerprint(root=tmp_path)
    assert found.isa == ()
    assert found.memory_bytes == 0
    assert found.cores >= 1
    assert not found.has_vnni


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
    ],
)
def test_cores_respect_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine(tmp_path, files).cores == cores


def test_memory_is_the_smaller_of_machine_and_container(tmp_path: Path) -> None:
    found = machine(tmp_path, {"proc/meminfo": "MemTotal: 1048576 kB\n", "sys/fs/cgroup/memory.max": "1000000\n"})
    assert found.memory_bytes == 1_000_000
    unlimited = machine(tmp_path, {"sys/fs/cgroup/memory.max": "max\n"})
    assert unlimited.memory_bytes == 1 << 30


def test_the_key_depends_on_what_decides_validity_and_on_nothing_else(tmp_path: Path) -> None:
    found = machine(tmp_path, {"proc/cpuinfo": X86})
    same = dataclasses.replace(found, cores=found.cores + 1, memory_bytes=1, python="3.0")
    assert same.key == found.key
    for change in ({"cpu_model": "another"}, {"isa": ("avx2",)}, {"architecture": "riscv64"}, {"system": "Plan 9"}):
        assert dataclasses.replace(found, **change).key != found.key


def test_a_fingerprint_survives_json(tmp_path: Path) -> None:
    found = fingerprint()
    assert DeviceFingerprint.from_dict(found.to_dict()) == found
    with pytest.raises(KeyError):
        DeviceFingerprint.from_dict({})


def test_this_machine_is_described_without_starting_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    monkeypatch.setattr(os, "fork", refuse)
    found = fingerprint()
    assert found.cores >= 1
    assert len(found.key) == 16
