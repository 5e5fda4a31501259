"""Writing files so that a reader sees the old content or the new, never half of it; places checked before long work."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from edge_mtl.errors import BuildError
from edge_mtl.unfinished import held, make_file, new_folder, sweep_folders, unfinished_name

__all__ = [
    "atomic_directory",
    "exchange",
    "naming",
    "native_path",
    "plain",
    "read_regular",
    "require_file_names",
    "require_writable",
    "sha256_bytes",
    "sha256_file",
    "write_atomic",
]


@contextlib.contextmanager
def native_path(path: Path) -> Iterator[str]:
    """A name for a file that native libraries can take, good within the block.

    Names on Linux are bytes. Those that are no UTF-8 cannot become the text that a library wants: OpenCV ends the process. The
    file, or one to be made in its folder, is then named by a descriptor.

    Args:
        path: an existing file, or a file to be made whose own name is UTF-8.
    Raises:
        OSError: the file or its folder cannot be opened, or the name cannot be had in another way.
    """
    if _is_utf8(str(path)):
        yield str(path)
        return
    by_folder = _is_utf8(path.name)
    descriptor = os.open(path.parent if by_folder else path, os.O_RDONLY)
    try:
        place = f"/proc/self/fd/{descriptor}"
        if not os.path.exists(place):
            raise OSError(errno.EILSEQ, "its name is not UTF-8 and /proc is missing; rename it", str(path))
        yield f"{place}/{path.name}" if by_folder else place
    finally:
        os.close(descriptor)


def _is_utf8(name: str) -> bool:
    """Whether a path as Python has it, undecodable bytes as surrogates, is text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_atomic(path: Path, payload: bytes, *, by_way_of: Path | None = None) -> None:
    """Write `payload` to `path`: temporary file beside it, fsync, replace.

    The first time in a folder, files that killed processes left unfinished there are swept.

    Args:
        by_way_of: folder of the temporary file, on the same file system; by default that of `path`.
    Raises:
        OSError: the disk is full or the folder is not writable; `path` is as it was and no temporary file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished_name(by_way_of or path.parent)
    with naming(path):
        try:
            with os.fdopen(make_file(temporary), "wb") as stream:
                stream.write(payload)
                stream.flush()
                os.fsync(stream.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)  # before the descriptor is closed: until then nobody sweeps the file
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    _sync_directory(path.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError of the block names `path`, which was to be made, where it names a temporary file or none."""
    try:
        yield
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror or str(exc), str(path)) from exc


@contextlib.contextmanager
def atomic_directory(path: Path, *, replace: bool = False, keep: Path | None = None) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the block ends without an error.

    Where the file system can exchange two names, `path` is there at every moment, also for a process that is killed. What such
    a process left of `path` is swept at the end; with `keep` it stays: it may be the folder that was to be kept.

    Args:
        path: the folder to make.
        replace: whether an existing `path` is swapped for the new one (else FileExistsError).
        keep: where the old folder goes then, in place of what lies there; without it the old one is removed.
    Raises:
        FileExistsError: `path` exists and `replace` is false.
        OSError: as the file system says; `path` is as it was.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(path) as temporary, contextlib.ExitStack() as stack:
        try:
            os.chmod(temporary, 0o755)  # noqa: S103 (mkdtemp makes it private; a bundle is public)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync_file(file)
            stack.enter_context(held(path))  # it is called `temporary` next, and nobody may sweep it before it is kept
            if path.exists():
                exchange(temporary, path)
            else:
                os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_directory(path.parent)
        if temporary.exists() and keep is not None:
            try:
                if keep.exists():
                    with new_folder(path) as aside:
                        os.replace(keep, aside / keep.name)
                        shutil.rmtree(aside, ignore_errors=True)
                os.replace(temporary, keep)
            except OSError:
                exchange(temporary, path)
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            _sync_directory(path.parent)
        shutil.rmtree(temporary, ignore_errors=True)
    if keep is None:
        sweep_folders(path)


def exchange(first: Path, second: Path) -> None:
    """Swap the names of two folders of one file system: in one step where the system can, else by renaming in turn.

    Raises:
        OSError: as the file system says; both are as they were.
    """
    if _exchange_in_one_step(first, second):
        return
    with new_folder(second) as aside:
        moved = aside / second.name
        try:
            os.replace(second, moved)
            try:
                os.replace(first, second)
            except OSError:
                os.replace(moved, second)
                raise
            os.replace(moved, first)
        finally:
            if not moved.exists():
                shutil.rmtree(aside, ignore_errors=True)


def plain(content: Any) -> Any:
    """`content` made of what JSON has: dataclasses become objects, tuples lists, NaN and infinity null, paths text."""
    if is_dataclass(content) and not isinstance(content, type):
        return plain(asdict(content))
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple, set, frozenset)):
        return [plain(value) for value in content]
    if isinstance(content, (bool, str, int)) or content is None:
        return content
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if hasattr(content, "tolist"):
        return plain(content.tolist())
    return str(content)


def require_file_names(*paths: Path | None) -> None:
    """Raises OSError where one of `paths` is a folder: found out before minutes of measuring."""
    for path in paths:
        if path is not None and path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "expected a file name, found a folder", str(path))


def require_writable(folder: Path) -> None:
    """Make `folder` and try to write into it. Raises BuildError where that does not work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise BuildError(f"{folder} cannot be written to ({exc.strerror or exc}). Choose another folder: --out DIR") from exc


def read_regular(path: Path, *, most: int) -> bytes:
    """The bytes of a file, or of the one that a link leads to; nothing is waited for and no more is read than was allowed.

    Args:
        most: the largest size that is read.
    Raises:
        OSError: it is not there, is larger, or is no file but a folder, a pipe or a device.
        ValueError: no file can have that name.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer does not hold us up
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "no file but a folder, a pipe or a device", str(path))
        with open(descriptor, "rb", closefd=False) as stream:
            payload = stream.read(most + 1) if facts.st_size <= most else b""
    finally:
        os.close(descriptor)  # `os.fdopen` leaves that of a folder open
    if facts.st_size > most or len(payload) > most:
        raise OSError(errno.EFBIG, f"larger than {most} bytes", str(path))
    return payload


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


_AT_CWD, _RENAME_EXCHANGE = -100, 2
_NOT_SUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EXDEV)


def _exchange_in_one_step(first: Path, second: Path) -> bool:
    """renameat2(RENAME_EXCHANGE) of Linux; False where the C library, the kernel or the file system does not have it."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    if call(_AT_CWD, os.fsencode(first), _AT_CWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(second))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to sync folders
        _sync_file(path)
