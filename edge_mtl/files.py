"""Writing files so that a reader sees the old content or the new, never half of it. Knows nothing about bundles."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["TEMPORARY_PREFIX", "atomic_directory", "sha256_bytes", "sha256_file", "sweep_temporaries", "write_atomic"]

TEMPORARY_PREFIX = ".tmp-edge-mtl-"
"""Names of unfinished files and folders start with this, so that leftovers of a killed process can be swept."""


def write_atomic(path: Path, payload: bytes) -> None:
    """Write `payload` to `path`: temporary file beside it, fsync, replace.

    Raises:
        OSError: the disk is full or the folder is not writable; `path` is as it was and no temporary file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(path.parent)


@contextlib.contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the block ends without an error.

    Args:
        path: the folder to make.
        replace: whether an existing `path` is swapped for the new one (else FileExistsError).
    Raises:
        FileExistsError: `path` exists and `replace` is false.
        OSError: as the file system says; `path` is as it was.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    try:
        os.chmod(temporary, 0o755)  # noqa: S103 (mkdtemp makes it private; a bundle is public)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync_file(file)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent)) / path.name
            os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                os.replace(old, path)
                raise
            finally:
                shutil.rmtree(old.parent, ignore_errors=True)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_directory(path.parent)


def sweep_temporaries(folder: Path, *, older_than_s: float = 3600.0) -> list[Path]:
    """Remove unfinished files and folders that a killed process left in `folder`; returns what was removed."""
    removed = []
    limit = time.time() - older_than_s
    for entry in folder.glob(TEMPORARY_PREFIX + "*") if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime < limit:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                removed.append(entry)
    return removed


def sha256_bytes(payload: bytes) -> str:
    """SHA-256 of `payload` in lower-case hexadecimal."""
    return hashlib.sha256(payload).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to sync folders
        _sync_file(path)
