"""What is read of /dev/shm, by a system that is played."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_mtl.shared_memory import SharedMemory, shared_memory


def test_size_and_room_are_read_from_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=100, f_bavail=30, f_bfree=40, f_frsize=1 << 20))
    found = shared_memory(tmp_path)
    assert found == SharedMemory(100 << 20, 30 << 20)
    assert str(found) == "/dev/shm has 31 MB free of 105 MB"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert shared_memory(tmp_path) is None


def test_no_shared_memory_at_all_is_none(tmp_path: Path) -> None:
    assert shared_memory(tmp_path / "nowhere") is None
