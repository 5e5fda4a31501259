"""Where threads cannot be had, libraries that would end the process for it begin none."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge_mtl import few_threads
from edge_mtl.few_threads import begin_few_threads


@pytest.fixture
def limited(tmp_path: Path) -> Path:
    """A root with a control group of three processes."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/pids.max").write_text("3\n")
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Two threads can be started, and no third one."""
    start, begun = threading.Thread.start, list[threading.Thread]()

    def refuse(self: threading.Thread) -> None:
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begun.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return begun


def test_libraries_begin_no_threads_where_these_cannot_be_had(limited: Path, started: list[threading.Thread]) -> None:
    environment: dict[str, str] = {}
    assert begin_few_threads(environment, limited) is True
    assert environment == {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    assert len(started) == 2
    assert not any(thread.is_alive() for thread in started)


def test_what_the_user_set_stays(limited: Path, started: list[threading.Thread]) -> None:
    environment = {"OMP_NUM_THREADS": "3"}
    begin_few_threads(environment, limited)
    assert environment["OMP_NUM_THREADS"] == "3"


def test_where_threads_can_be_had_or_are_not_limited_nothing_is_set(limited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    assert begin_few_threads(environment, limited) is False
    monkeypatch.setattr(few_threads, "_limit", lambda root: float("inf"))
    monkeypatch.setattr(few_threads, "_can_start", lambda count: pytest.fail("threads were started"))
    assert begin_few_threads(environment, limited) is False
    assert environment == {}
