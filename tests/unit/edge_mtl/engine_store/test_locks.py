"""A lock between processes: one holder, the others wait, say so once, give up in time, and get it when its holder ends."""

from __future__ import annotations

import inspect
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_mtl.engine_store import locks
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.errors import BuildError


def test_a_free_lock_is_had_at_once_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "lock", timeout_s=0.0) as waited:
            assert waited is False
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "lock").read_bytes() == b""


def test_who_waits_says_so_once_and_gets_it_when_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, pauses = [], []
    holder = exclusive(tmp_path / "lock")
    holder.__enter__()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            holder.__exit__(None, None, None)

    monkeypatch.setattr(locks.time, "sleep", pause)
    with exclusive(tmp_path / "lock", timeout_s=600.0, waiting=lambda: said.append("waiting")) as waited:
        assert waited is True
    assert said == ["waiting"]
    assert pauses == [0.05] * 3


def test_who_waits_need_not_say_so(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"), pytest.raises(BuildError), exclusive(tmp_path / "lock", timeout_s=0.0):
        pass


def test_the_wait_ends_after_its_time_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(locks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 1.0))
    with (
        exclusive(tmp_path / "lock"),
        pytest.raises(BuildError, match=r"lock was held by another build for 5 s\. Try again when it has ended"),
        exclusive(tmp_path / "lock", timeout_s=5.0),
    ):
        pass
    assert now == [106.0], "at five seconds exactly it is asked once more"


def test_without_a_limit_a_wait_lasts_as_long_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, days = exclusive(tmp_path / "lock"), [0.0]
    holder.__enter__()
    monkeypatch.setattr(locks.time, "monotonic", lambda: days[0])

    def pause(_: float) -> None:
        days[0] += 86400.0
        if days[0] > 300000.0:
            holder.__exit__(None, None, None)

    monkeypatch.setattr(locks.time, "sleep", pause)
    with exclusive(tmp_path / "lock") as waited:
        assert waited


def test_an_error_within_and_an_error_of_the_wait_free_the_lock(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RuntimeError, match="within"), exclusive(tmp_path / "lock"):
        raise RuntimeError("within")
    with exclusive(tmp_path / "lock"):
        for _ in range(3):
            with pytest.raises(BuildError), exclusive(tmp_path / "lock", timeout_s=0.0):
                pass
    assert len(os.listdir("/proc/self/fd")) == before
    with exclusive(tmp_path / "lock", timeout_s=0.0) as waited:
        assert waited is False


def test_a_link_is_no_lock_and_a_folder_that_is_missing_none_either(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link", tmp_path / "missing" / "lock"):
        with pytest.raises(OSError, match=path.name), exclusive(path):
            pass
    assert not (tmp_path / "elsewhere").exists()


def test_who_finds_that_the_lock_was_removed_meanwhile_takes_the_new_one_and_has_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, make = [], locks._open

    def then_removed(path: Path) -> int:
        opened.append(make(path))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(locks, "_open", then_removed)
    with exclusive(tmp_path / "lock") as waited:
        assert waited
        with pytest.raises(BuildError), exclusive(tmp_path / "lock", timeout_s=0.0):
            pass


def test_a_system_that_cannot_refuse_links_has_locks_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(locks.os, "O_NOFOLLOW")
    with exclusive(tmp_path / "lock"):
        assert stat.S_ISREG((tmp_path / "lock").stat().st_mode)


def test_a_program_that_is_started_within_does_not_keep_the_lock(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"):
        (held,) = [
            int(name)
            for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}") and os.path.realpath(f"/proc/self/fd/{name}") == str(tmp_path / "lock")
        ]
        assert not os.get_inheritable(held)


def test_a_system_without_such_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(locks, "import_module", missing)
    with pytest.raises(BuildError, match=r"needs file locks \(fcntl\)"), exclusive(tmp_path / "lock"):
        pass


def test_threads_take_their_turns(tmp_path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        with exclusive(tmp_path / "lock"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 4


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (exclusive, ["timeout_s", "waiting"]),
    ],
)
def test_options_are_given_by_name(call: Callable[..., object], names: list[str]) -> None:
    parameters = inspect.signature(call).parameters
    assert [name for name in parameters if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY] == names
