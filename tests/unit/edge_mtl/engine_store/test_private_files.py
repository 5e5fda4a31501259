"""What is read as if it were code: only from folders that nobody else writes to, no links, and only the recorded bytes."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_mtl.engine_store import private_files
from edge_mtl.engine_store.private_files import check_owner, read_checked
from edge_mtl.errors import BundleError

CONTENT = b"code"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def read(path: Path, *, size: int = len(CONTENT), sha256: str = DIGEST) -> bytes:
    return read_checked(path, size=size, sha256=sha256, what="Engine", remedy="Build it again.")


@pytest.mark.parametrize(("mode", "fine"), [(0o700, True), (0o755, True), (0o720, False), (0o702, False), (0o777, False)])
def test_only_a_folder_that_others_cannot_write_is_trusted(tmp_path: Path, mode: int, fine: bool) -> None:
    tmp_path.chmod(mode)
    if fine:
        check_owner(tmp_path, remedy="")
    else:
        with pytest.raises(BundleError, match=r"can be written by other users: its engines are not trusted\. Run: chmod 700"):
            check_owner(tmp_path, remedy="")


@pytest.mark.parametrize(("me", "fine"), [(0, True), (-1, False), (1, False)])
def test_only_a_folder_of_this_user_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, me: int, fine: bool) -> None:
    """`me` is who asks, above or below the owner."""
    owner = 4000
    facts = list(tmp_path.stat())
    facts[4] = owner
    monkeypatch.setattr(Path, "stat", lambda self: os.stat_result(facts))
    monkeypatch.setattr(os, "getuid", lambda: owner + me)
    if fine:
        check_owner(tmp_path, remedy="")
    else:
        with pytest.raises(BundleError, match=r"belongs to user 4000, not to this one: its engines are not trusted\. Go away"):
            check_owner(tmp_path, remedy="Go away.")


def test_a_folder_of_root_is_trusted_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = list(tmp_path.stat())
    facts[4] = 0
    monkeypatch.setattr(Path, "stat", lambda self: os.stat_result(facts))
    monkeypatch.setattr(os, "getuid", lambda: 4000)
    check_owner(tmp_path, remedy="")


def test_a_folder_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"folder .*missing cannot be read \(No such file or directory\)"):
        check_owner(tmp_path / "missing", remedy="")


def test_a_system_without_users_has_no_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(private_files.os, "getuid")
    check_owner(tmp_path / "missing", remedy="")


def test_the_recorded_bytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    assert read(path) == CONTENT
    path.write_bytes(b"")
    assert read(path, size=0, sha256=hashlib.sha256(b"").hexdigest()) == b""


@pytest.mark.parametrize("content", [b"cod", b"code!", b"", b"codes and more"])
def test_a_file_of_another_size_is_refused_unread(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    said = rf"Engine .*file was altered: 4 bytes expected, {len(content)} found\. Build it again"
    with pytest.raises(BundleError, match=said):
        read(path, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("digest", ["0" * 64, "f" * 64])
def test_other_bytes_of_the_same_size_are_refused(tmp_path: Path, digest: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with pytest.raises(BundleError, match=r"was altered: its SHA-256 differs from the one recorded\. Build it again"):
        read(path, sha256=digest)


def test_links_folders_and_pipes_are_no_such_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(BundleError, match=r"Engine .*link cannot be opened \(.*\)\. Build it again"):
        read(tmp_path / "link")
    with pytest.raises(BundleError, match="cannot be opened"):
        read(tmp_path / "missing")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("folder", "pipe"):
        path = tmp_path / name
        with pytest.raises(BundleError, match=r"was altered: \d+ bytes expected"):
            read(path, size=path.stat().st_size)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_disk_that_cannot_be_read_is_an_error_of_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(CONTENT)

    def broken(descriptor: int) -> os.stat_result:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(private_files.os, "fstat", broken)
        with pytest.raises(BundleError) as caught:
            read(tmp_path / "file")
    assert str(caught.value) == f"Engine {tmp_path}/file cannot be read (Input/output error). Build it again."


def test_a_device_is_no_such_file() -> None:
    with pytest.raises(BundleError, match="was altered: 0 bytes expected, 0 found"):
        read(Path(os.devnull), size=0, sha256=hashlib.sha256(b"").hexdigest())


def test_bytes_that_come_while_it_is_read_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size was right when it was looked at: what is read counts."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    look = os.fstat

    def look_then_grow(descriptor: int) -> os.stat_result:
        facts = look(descriptor)
        path.write_bytes(CONTENT + b"!")
        return facts

    monkeypatch.setattr(private_files.os, "fstat", look_then_grow)
    with pytest.raises(BundleError, match="its SHA-256 differs"):
        read(path)


@pytest.mark.parametrize("then", [CONTENT + b"!", CONTENT[:-1]])
def test_a_file_that_comes_to_another_size_while_it_is_read_is_refused_whatever_digest_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    look = os.fstat

    def look_then_change(descriptor: int) -> os.stat_result:
        facts = look(descriptor)
        path.write_bytes(then)
        return facts

    monkeypatch.setattr(private_files.os, "fstat", look_then_change)
    with pytest.raises(BundleError, match="was altered"):
        read(path, sha256=hashlib.sha256(then).hexdigest())


def test_a_system_without_flags_for_links_and_pipes_reads_files_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    for flag in ("O_NOFOLLOW", "O_NONBLOCK"):
        monkeypatch.delattr(private_files.os, flag)
    assert read(tmp_path / "file") == CONTENT


def test_a_program_that_is_started_meanwhile_does_not_get_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    look, inherited = os.fstat, []
    monkeypatch.setattr(private_files.os, "fstat", lambda fd: inherited.append(os.get_inheritable(fd)) or look(fd))
    assert read(path) == CONTENT
    assert inherited == [False]


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (check_owner, ["remedy"]),
        (read_checked, ["size", "sha256", "what", "remedy"]),
    ],
)
def test_options_are_given_by_name(call: Callable[..., object], names: list[str]) -> None:
    parameters = inspect.signature(call).parameters
    assert [name for name in parameters if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY] == names
