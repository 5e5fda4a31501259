import errno
import os

import pytest

from edge_mtl.files import atomic_directory, read_regular, write_atomic
from edge_mtl.unfinished import TEMPORARY_PREFIX, new_folder


def leftovers(folder):
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(TEMPORARY_PREFIX)]


def test_write_atomic_replaces_the_content(tmp_path):
    target = tmp_path / "a" / "file"
    write_atomic(target, b"old")
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert leftovers(target.parent) == []


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_full_disk_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch, step):
    target = tmp_path / "file"
    write_atomic(target, b"old")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"edge_mtl.files.os.{step}", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "folder"
    with atomic_directory(target) as folder:
        (folder / "a").write_text("a")
        assert not target.exists()
    assert (target / "a").read_text() == "a"
    assert leftovers(tmp_path) == []


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    target = tmp_path / "folder"
    with pytest.raises(ZeroDivisionError), atomic_directory(target) as folder:
        (folder / "a").write_text("a")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_folder_survives_a_failing_swap(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    with atomic_directory(target) as folder:
        (folder / "a").write_text("old")
    real = os.replace

    def failing(source, destination):
        if os.fspath(destination) == os.fspath(target) and (target.parent / os.path.basename(source) / "b").exists():
            raise OSError(errno.EIO, "I/O error")
        real(source, destination)

    monkeypatch.setattr("edge_mtl.files._exchange_in_one_step", lambda first, second: False)
    monkeypatch.setattr("edge_mtl.files.os.replace", failing)
    with pytest.raises(OSError, match="I/O error"), atomic_directory(target, replace=True) as folder:
        (folder / "b").write_text("new")
    monkeypatch.undo()
    assert (target / "a").read_text() == "old"
    assert leftovers(tmp_path) == []


def test_an_existing_folder_is_not_replaced_unasked(tmp_path):
    with pytest.raises(FileExistsError), atomic_directory(tmp_path):
        pass


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_sweeps_what_killed_processes_left_of_it_and_nothing_else(tmp_path, replace):
    target = tmp_path / "folder"
    if replace:
        target.mkdir()
    dead, other = tmp_path / f"{TEMPORARY_PREFIX}folder.dead", tmp_path / f"{TEMPORARY_PREFIX}folder.b.dead"
    for left in (dead, other):
        left.mkdir()
        (left / "half").write_text("x")
    with new_folder(target) as busy:
        with atomic_directory(target, replace=replace) as folder:
            (folder / "a").write_text("a")
            assert dead.exists(), "it may be all that is left, until there is a new one"
        assert sorted(tmp_path.iterdir()) == sorted([busy, other, target])


def test_what_was_to_be_kept_is_not_swept_by_the_next_folder_that_keeps(tmp_path):
    target, kept = tmp_path / "folder", tmp_path / "kept"
    target.mkdir()
    dead = tmp_path / f"{TEMPORARY_PREFIX}folder.dead"
    dead.mkdir()
    with atomic_directory(target, replace=True, keep=kept) as folder:
        (folder / "a").write_text("a")
    assert sorted(tmp_path.iterdir()) == sorted([dead, target, kept])


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    """Whoever puts a link in the place of a file to come does not choose what is overwritten."""
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.link(tmp_path / "victim", tmp_path / "second name")
    for name in ("link", "second name"):
        write_atomic(tmp_path / name, b"new")
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_file_is_read_up_to_a_size_and_what_is_none_leaves_nothing_open(tmp_path):
    (tmp_path / "file").write_bytes(b"four")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", most=4) == read_regular(tmp_path / "link", most=5) == b"four"
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_regular(tmp_path / "file", most=3)
    for path in (tmp_path, tmp_path / "pipe", os.devnull):
        with pytest.raises(OSError, match="no file but a folder, a pipe or a device"):
            read_regular(path, most=4)
    assert len(os.listdir("/proc/self/fd")) == before
