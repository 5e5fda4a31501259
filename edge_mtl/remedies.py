"""What to do about an error of the operating system, one sentence for each kind. Knows no file and no command."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

__all__ = ["NO_MEMORY", "remedy", "shortage", "told"]

NO_MEMORY = "End other programs, raise the limit of memory (ulimit -v, or the container's), or ask for less at a time."

_SPACE = "Free some space, or name a place on another disk; then run it again."
_RIGHTS = "Name a place that can be written and read by this user, or change its permissions."
_PLACE = "Name another place."
_DISK = "Check the disk (dmesg tells), or use another one; then run it again."
_REMEDIES: Mapping[int, str] = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: "Free some space of this user's quota, or name a place on another disk; then run it again.",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f unlimited), then run it again.",
    errno.EROFS: "Name a place that can be written.",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: _DISK,
    errno.ESTALE: _DISK,
    errno.EMFILE: "Raise the limit of open files (ulimit -n 1024), then run it again.",
    errno.ENFILE: "End other programs: the system has too many files open. Then run it again.",
    errno.ENOMEM: NO_MEMORY,
    errno.EAGAIN: "Raise the limit of processes and threads (ulimit -u, or the container's), or give --threads 1.",
    errno.EEXIST: _PLACE,
    errno.EISDIR: _PLACE,
    errno.ENOTDIR: _PLACE,
    errno.ENOTEMPTY: _PLACE,
    errno.ENAMETOOLONG: "Name a place with a shorter name.",
    errno.ENOENT: "Check the name, and that its folder is there.",
}


_SHORTAGES = (
    (re.compile(r"failed to map segment|cannot allocate|can't allocate|out of memory|bad_alloc", re.IGNORECASE), errno.ENOMEM),
    (re.compile(r"too many open files", re.IGNORECASE), errno.EMFILE),
    (re.compile(r"can't start new thread|resource temporarily unavailable", re.IGNORECASE), errno.EAGAIN),
)


def shortage(exc: BaseException) -> str:
    """What to do where `exc`, of an import or a library, says that memory, files or threads ran out; else ""."""
    if isinstance(exc, MemoryError):
        return NO_MEMORY
    return next((_REMEDIES[number] for said, number in _SHORTAGES if said.search(str(exc))), "")


def remedy(exc: Exception) -> str:
    """What to do about `exc`, a sentence; of what is no OSError with a number, that it may be tried again."""
    return _REMEDIES.get(getattr(exc, "errno", None) or 0, "Run it again, or name another place.")


def told(exc: Exception) -> str:
    """What the system said, and what to do: the end of a message, "(No space left on device). Free some space, ..."."""
    return f"({getattr(exc, 'strerror', None) or exc}). {remedy(exc)}"
