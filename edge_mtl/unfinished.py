"""Files and folders that are not complete yet: made beside their place, locked while they are written, swept when left behind.

A process that is killed leaves what it had begun. The kernel frees its locks, so that whoever writes next in that folder can
tell a leftover from what another process is writing now.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # not Unix: what is old is taken for left behind
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "TEMPORARY_PREFIX",
    "held",
    "left_behind",
    "make_file",
    "new_folder",
    "scratch_folder",
    "sweep_folders",
    "sweep_temporaries",
    "temporary_folders",
    "unfinished_name",
]

TEMPORARY_PREFIX = ".tmp-edge-mtl-"
"""Names of unfinished files and folders start with this."""

_OLD_S = 3600.0
"""Where a file system has no locks, what was not changed for this long is left behind."""
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def unfinished_name(folder: Path, *, suffix: str = "") -> Path:
    """A name in `folder` for `make_file`: known before the file is there, so that a signal in between leaves nothing behind.

    The first time that a process asks for one, files that killed processes left in `folder` are swept. Folders stay: they may
    hold what is of use to others (`edge_mtl.engine_store.revision`).
    """
    _sweep_files_once(str(folder), os.getpid())
    return folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{suffix}"


def make_file(path: Path) -> int:
    """Make an empty file that nobody sweeps until its descriptor, which is returned, is closed; only this user can read it.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        _hold(descriptor)
        if os.path.exists(path):
            return descriptor
        os.close(descriptor)  # swept before it was locked


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that nobody sweeps within the block. Its name says that it is of `path`.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{path.name}.", dir=path.parent))
        with held(folder):
            if folder.is_dir():
                yield folder
                return


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A folder in the system's folder for temporary files, which goes at the end; those of killed processes go first."""
    place = Path(tempfile.gettempdir(), purpose)
    sweep_folders(place)
    with new_folder(place) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock `folder`, by whatever name it has later, so that nobody sweeps it within the block."""
    try:
        descriptor = os.open(folder, _OPEN)
    except OSError:  # it is gone, or this system does not open folders
        yield
        return
    try:
        _hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def temporary_folders(path: Path) -> list[Path]:
    """Unfinished folders beside `path` whose process was killed before they became `path`."""
    prefix = f"{TEMPORARY_PREFIX}{path.name}."
    named = (each for each in _unfinished(path.parent) if each.name.startswith(prefix) and "." not in each.name[len(prefix) :])
    return [entry for entry in named if _left_behind(entry)]


def left_behind(folder: Path) -> list[Path]:
    """What processes had begun in `folder` when they were killed."""
    return [entry for entry in _unfinished(folder) if _left_behind(entry)]


def sweep_folders(path: Path) -> None:
    """Remove unfinished folders that killed processes left of `path`."""
    for entry in temporary_folders(path):
        _swept(entry)


def sweep_temporaries(folder: Path) -> list[Path]:
    """Remove unfinished files and folders that killed processes left in `folder`; returns what was removed."""
    return [entry for entry in _unfinished(folder) if _swept(entry)]


def _unfinished(folder: Path) -> list[Path]:
    """Unfinished files and folders in `folder`, also those that a process holds."""
    return sorted(folder.glob(f"{TEMPORARY_PREFIX}*")) if folder.is_dir() else []


@lru_cache(maxsize=256)
def _sweep_files_once(folder: str, process: int) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [each for each in entries if each.name.startswith(TEMPORARY_PREFIX)]:
            if entry.is_file(follow_symlinks=False):
                _swept(Path(entry.path))


def _hold(descriptor: int) -> None:
    """Lock an open file or folder. Whoever has it locked is about to sweep it, so the wait is short."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _left_behind(entry: Path) -> bool:
    """Whether no process holds `entry` any more."""
    try:
        descriptor = os.open(entry, _OPEN)
    except OSError:
        return False
    try:
        return _free(descriptor)
    finally:
        os.close(descriptor)


def _swept(entry: Path) -> bool:
    """Remove a file or folder unless a process holds it; whether it is gone."""
    try:
        descriptor = os.open(entry, _OPEN)
    except OSError:  # another user's, a link, or swept by another process
        return False
    try:
        if not _free(descriptor):
            return False
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            shutil.rmtree(entry)
        else:
            os.unlink(entry)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _free(descriptor: int) -> bool:
    """Whether nobody has an open file or folder locked; it is locked by `descriptor` then."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return time.time() - os.fstat(descriptor).st_mtime > _OLD_S
        return True
    return time.time() - os.fstat(descriptor).st_mtime > _OLD_S
