"""What doctor says of shared memory, home, encodings, locale and processors, with what to do; by a system that is played."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from edge_mtl import surroundings as module
from edge_mtl.shared_memory import SharedMemory
from edge_mtl.surroundings import Finding, surroundings
from tests.site_folders import SiteFolder


@pytest.mark.parametrize(
    ("memory", "found", "remedy"),
    [
        (SharedMemory(8 << 30, 8 << 30), "8590 MB free", ""),
        (SharedMemory(64 << 20, 64 << 20), "67 MB free of 67 MB", "--shm-size=2g or --ipc=host; or --loop.loader_workers 0"),
        (None, "cannot be written to", "--loop.loader_workers 0"),
    ],
)
def test_little_shared_memory_comes_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, memory: SharedMemory | None, found: str, remedy: str
) -> None:
    monkeypatch.setattr(module, "shared_memory", lambda: memory)
    finding = surroundings()["shared memory"]
    assert found in finding.found
    assert remedy in finding.remedy
    assert bool(finding.remedy) is bool(remedy)


def test_a_home_that_is_missing_or_read_only_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    remedy = "Set HOME, or XDG_CACHE_HOME, to a folder that can be written"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert surroundings({})["home folder"] == Finding(str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert surroundings({})["home folder"] == Finding(f"{tmp_path} cannot be written to", remedy)
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    assert surroundings({})["home folder"] == Finding(f"{tmp_path / 'none'} is missing", remedy)
    assert surroundings({"XDG_CACHE_HOME": "/cache"})["home folder"].remedy == ""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert surroundings({})["home folder"].found.startswith("none: HOME is not set")


def test_encodings_other_than_utf_8_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert surroundings()["encodings"].remedy == ""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    finding = surroundings()["encodings"]
    assert finding.found.endswith("ascii for what is printed")
    assert "LC_ALL=C.UTF-8" in finding.remedy
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "latin-1")
    assert "cannot be opened" in surroundings()["encodings"].remedy


@pytest.mark.parametrize(("quota", "found", "remedy"), [("max", "none", ""), ("50000", "1 of ", "docker run --cpus")])
def test_a_quota_of_processors_is_read_from_the_control_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, found: str, remedy: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(f"{quota} 100000\n")
    finding = surroundings(root=tmp_path)["CPU quota"]
    assert finding.found.startswith(found)
    assert remedy in finding.remedy


def test_doctor_runs_and_says_so_with_no_home_no_locale_and_ascii(tmp_path: Path) -> None:
    site = SiteFolder(tmp_path / "site", without=())
    played = {"HOME": "/nowhere", "XDG_CACHE_HOME": "", "LC_ALL": "xx_XX.UTF-8", "PYTHONIOENCODING": "ascii"}
    done = site.run("-m", "edge_mtl.cli", "doctor", **played)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    for words in ("/nowhere is missing. Set HOME", "xx_XX.UTF-8 is not installed here", "ascii for what is printed", "MB free"):
        assert words in said
    record = json.loads(site.run("-m", "edge_mtl.cli", "doctor", "--json", **played).stdout)
    assert record["surroundings"]["home folder"]["remedy"].startswith("Set HOME")
    assert set(record["surroundings"]) == set(surroundings())
