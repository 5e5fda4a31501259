"""Why a bag cannot be read, by its files, and what helps: recordings that were not finished, copies that are not whole.

`ros2 bag reindex` writes metadata.yaml anew and nothing else; an MCAP file without its end is completed by `mcap recover`, a
database with a log beside it by SQLite. Knows files; imports nothing that reads bags.
"""

from __future__ import annotations

import errno
import shlex
import struct
from pathlib import Path

from edge_mtl.errors import FrameError
from edge_mtl.remedies import told

__all__ = ["STORAGE_SUFFIXES", "bag_fault", "check_finished", "log_elsewhere", "reading_fault", "storage_files"]

STORAGE_SUFFIXES = (".db3", ".mcap")
_COMPRESSED = ".zstd"
_MCAP, _SQLITE, _ROS1 = b"\x89MCAP0\r\n", b"SQLite format 3\0", b"#ROSBAG V"
_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""Of a rollback journal that is to be played back."""
_WAL_MODE = 2
_AGAIN = "Copy it again from where it was recorded."


def storage_files(path: Path) -> list[Path]:
    """The files of a bag, compressed ones too: those in a folder, or the file itself."""
    if not path.is_dir():
        return [path]
    endings = (*STORAGE_SUFFIXES, *(suffix + _COMPRESSED for suffix in STORAGE_SUFFIXES))
    return sorted(entry for entry in path.iterdir() if entry.name.endswith(endings) and entry.is_file())


def check_finished(path: Path) -> None:
    """Refuse a bag whose last messages are not in it yet, which SQLite would read without them. Raises FrameError."""
    for file in storage_files(path):
        if file.suffix == ".db3" and (fault := _log_beside(file)):
            raise FrameError(f"{path} is not a readable ROS bag: {fault}")


def bag_fault(path: Path, exc: Exception) -> FrameError:
    """What to say of a bag that cannot be opened.

    Args:
        exc: what its reader said.
    """
    reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")
    fault = (
        _denied(exc) or _by_files(path) or _unsupported(reason) or _by_metadata(path, exc, reason) or _by_reader(path, reason)
    )
    return FrameError(f"{path} is not a readable ROS bag: {fault or f'{reason}. {_AGAIN}'}")


def reading_fault(path: Path, exc: Exception) -> FrameError:
    """What to say of a bag that was opened and cannot be read to its end."""
    file = storage_files(path)[-1]
    advice = {".mcap": _recover(file), ".db3": _rebuild(file), ".bag": f"Or try: rosbag reindex {_word(file)}"}
    return FrameError(
        f"{path} cannot be read to its end ({type(exc).__name__}). {_AGAIN} {advice.get(file.suffix, '')}".strip()
    )


def log_elsewhere(path: Path) -> str:
    """A sentence where a database has a log that is not here; "" where there is no such."""
    for file in storage_files(path):
        if file.suffix == ".db3" and _head(file, 20)[18:19] == bytes([_WAL_MODE]):
            return f"It was recorded with a write-ahead log: is there a {file.name}-wal where it comes from, copy it beside it."
    return ""


def _denied(exc: BaseException) -> str:
    here: BaseException | None = exc
    while here is not None:
        if isinstance(here, OSError) and here.errno in (errno.EACCES, errno.EPERM):
            return "its files may not be read by this user."
        here = here.__cause__ or here.__context__
    return ""


def _by_files(path: Path) -> str:
    for file in storage_files(path):
        try:
            size = file.stat().st_size
            if size == 0:
                return f"{file.name} is empty: its recorder wrote nothing to it, or it was copied before. {_AGAIN}"
            look = {".mcap": _mcap, ".db3": _sqlite, ".bag": _ros1}.get(file.suffix)
            fault = "" if look is None else look(file, size)
        except OSError as exc:
            fault = f"{file.name} cannot be read {told(exc)}"
        if fault:
            return fault
    return ""


def _mcap(file: Path, size: int) -> str:
    if _head(file, len(_MCAP)) != _MCAP:
        return f"{file.name} is no MCAP file. {_AGAIN}"
    if _tail(file, len(_MCAP)) != _MCAP or size < 2 * len(_MCAP):
        return f"{file.name} has no end: its recorder was stopped, or the copy is not whole. {_recover(file)}"
    return ""


def _sqlite(file: Path, size: int) -> str:
    head = _head(file, 100)
    if not head.startswith(_SQLITE) or len(head) < 100:
        return f"{file.name} is no SQLite database. {_AGAIN}"
    page, changed, pages, valid = struct.unpack(">16xH6xII60xI4x", head)
    if changed == valid and size < pages * (65536 if page == 1 else page):
        return f"{file.name} is cut short. {_AGAIN} {_rebuild(file)}"
    return _log_beside(file)


def _ros1(file: Path, size: int) -> str:
    if not _head(file, len(_ROS1)).startswith(_ROS1):
        return f"{file.name} is no bag of ROS 1. {_AGAIN}"
    return ""


def _log_beside(file: Path) -> str:
    """What SQLite has not put into a database yet, and how it is made to."""
    log, journal = (file.with_name(f"{file.name}-{kind}") for kind in ("wal", "journal"))
    if log.is_file() and log.stat().st_size:
        return (
            f"its last messages are in {log.name} only. Once its recorder has ended, run: "
            f"sqlite3 {_word(file)} 'PRAGMA wal_checkpoint(TRUNCATE)'"
        )
    if journal.is_file() and _head(journal, len(_JOURNAL)) == _JOURNAL:
        return (
            f"{journal.name} says that its recorder was stopped within a change. Once it has ended, run: "
            f"sqlite3 {_word(file)} 'PRAGMA quick_check', which undoes that change"
        )
    return ""


def _unsupported(reason: str) -> str:
    return f"{reason}. Try a newer rosbags: pip install --upgrade rosbags" if "supported" in reason.lower() else ""


def _by_metadata(path: Path, exc: Exception, reason: str) -> str:
    if not path.is_dir():
        return ""
    files = storage_files(path)
    storage = " -s mcap" if any(".mcap" in file.name for file in files) else ""
    reindex = f"ros2 bag reindex {_word(path)}{storage}"
    if not (path / "metadata.yaml").is_file():
        single = f", or name its file: {_word(files[0])}" if len(files) == 1 else ""
        return f"it has no metadata.yaml, which its recorder writes at the end. Run: {reindex}{single}"
    if "missing" in reason and "files" in reason:
        return f"its metadata.yaml names files that are not here ({reason}). Put them back, or go without: {reindex}"
    if files and not isinstance(exc, OSError):
        return f"its metadata.yaml does not fit ({reason}). Remove it, and run: {reindex}"
    return ""


def _by_reader(path: Path, reason: str) -> str:
    """Where the ends of all files are as they should be."""
    for file in storage_files(path):
        if file.suffix == ".mcap":
            return f"{reason}. {_recover(file)}"
        if file.suffix == ".bag" and "index" in reason:
            again = f"Run: rosbag reindex {_word(file)}"
            return f"{file.name} has no whole index: its recorder was stopped, or the copy is not whole. {again}"
        if file.suffix == ".db3" and "database" in reason.lower():
            return f"{file.name} is damaged, or was recorded by another program. {log_elsewhere(file) or _rebuild(file)}"
    return ""


def _recover(file: Path) -> str:
    made = file.with_name(f"{file.stem}-recovered.mcap")
    return f"Complete it, and read the new file: mcap recover {_word(file)} -o {_word(made)}"


def _rebuild(file: Path) -> str:
    made = file.with_name(f"{file.stem}-recovered.db3")
    return f"Or read what is left of it: sqlite3 {_word(file)} .recover | sqlite3 {_word(made)}"


def _word(path: Path) -> str:
    """As a shell reads it."""
    return shlex.quote(str(path))


def _head(file: Path, count: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(count)
    except OSError:
        return b""


def _tail(file: Path, count: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(-min(count, file.stat().st_size), 2)
        return opened.read(count)
