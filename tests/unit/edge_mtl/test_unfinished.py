"""What a killed process left is swept by the next one in that folder; what another process is writing now never is."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edge_mtl import unfinished
from edge_mtl.files import write_atomic
from edge_mtl.unfinished import (
    TEMPORARY_PREFIX,
    make_file,
    new_folder,
    scratch_folder,
    sweep_folders,
    sweep_temporaries,
    temporary_folders,
    unfinished_name,
)

WRITER = """
import sys, time
from pathlib import Path
from edge_mtl.unfinished import make_file, new_folder, unfinished_name

folder = Path(sys.argv[1])
descriptor = make_file(unfinished_name(folder))
with new_folder(folder / "bundle") as unfinished:
    (unfinished / "half").write_text("x")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def first_time() -> None:
    """Each test is a process that has not been in a folder yet."""
    unfinished._sweep_files_once.cache_clear()


@pytest.fixture
def writer(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process that is writing a file and a folder in `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def left_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{TEMPORARY_PREFIX}*"))


def test_what_another_process_writes_is_left_alone_until_it_is_killed(tmp_path: Path, writer: subprocess.Popen[bytes]) -> None:
    before = left_in(tmp_path)
    assert len(before) == 2
    write_atomic(tmp_path / "other", b"x")
    sweep_folders(tmp_path / "bundle")
    assert sweep_temporaries(tmp_path) == []
    assert left_in(tmp_path) == before
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    unfinished._sweep_files_once.cache_clear()
    write_atomic(tmp_path / "other", b"y")
    (folder,) = left_in(tmp_path)
    assert temporary_folders(tmp_path / "bundle") == [folder]
    sweep_folders(tmp_path / "bundle")
    assert left_in(tmp_path) == []


def test_a_file_sweeps_files_only_and_once(tmp_path: Path) -> None:
    half, folder = tmp_path / f"{TEMPORARY_PREFIX}half", tmp_path / f"{TEMPORARY_PREFIX}bundle.abc"
    half.write_bytes(b"x")
    folder.mkdir()
    write_atomic(tmp_path / "file", b"x")
    assert left_in(tmp_path) == [folder], "a folder may be a revision of a bundle that is yet to be kept"
    half.write_bytes(b"x")
    write_atomic(tmp_path / "file", b"y")
    assert half.exists(), "looking through a folder for each of thousands of files takes long"


def test_links_and_pipes_with_such_names_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / f"{TEMPORARY_PREFIX}link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / f"{TEMPORARY_PREFIX}pipe")
    write_atomic(tmp_path / "file", b"x")
    sweep_temporaries(tmp_path)
    assert (tmp_path / "precious").read_text() == "x"


def test_a_file_or_folder_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, swept = unfinished._hold, []

    def late(descriptor: int) -> None:
        if not swept:
            swept.extend(sweep_temporaries(tmp_path))
        hold(descriptor)

    monkeypatch.setattr(unfinished, "_hold", late)
    descriptor = make_file(unfinished_name(tmp_path))
    assert len(swept) == 1
    assert left_in(tmp_path) == swept, "by the same name"
    os.close(descriptor)
    sweep_temporaries(tmp_path)
    swept.clear()
    with new_folder(tmp_path / "bundle") as folder:
        assert folder.is_dir()
        assert swept != [folder]


def test_a_scratch_folder_sweeps_those_of_killed_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / f"{TEMPORARY_PREFIX}compiled.dead"
    dead.mkdir()
    with scratch_folder("compiled") as busy, scratch_folder("compiled") as folder:
        assert sorted(tmp_path.iterdir()) == sorted([busy, folder])
    assert list(tmp_path.iterdir()) == []


def test_without_locks_what_is_old_was_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, young = tmp_path / f"{TEMPORARY_PREFIX}old", tmp_path / f"{TEMPORARY_PREFIX}young"
    for left in (old, young):
        left.mkdir()
        (left / "x").write_text("x")
    os.utime(old, (time.time() - 2 * unfinished._OLD_S,) * 2)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(unfinished.fcntl, "flock", refuse)
    assert sweep_temporaries(tmp_path) == [old]
    assert young.exists()
