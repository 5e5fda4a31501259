"""The write steps of a command, read from a log of strace, and the errors that each can meet."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CALLS", "Step", "chosen", "errors_of", "met", "read_steps"]

_DISK, _META = ("ENOSPC", "EIO", "EDQUOT"), ("ENOSPC", "EIO", "EROFS", "EDQUOT")
CALLS = {
    "openat": _META,
    "write": _DISK,
    "writev": _DISK,
    "pwrite64": _DISK,
    "pwritev": _DISK,
    "copy_file_range": _DISK,
    "sendfile": _DISK,
    "fsync": _DISK,
    "fdatasync": _DISK,
    "ftruncate": ("EIO", "ENOSPC"),
    "fallocate": _DISK,
    "rename": _META,
    "renameat": _META,
    "renameat2": _META,
    "mkdir": _META,
    "mkdirat": _META,
    "rmdir": ("EIO", "EROFS"),
    "unlink": ("EIO", "EROFS"),
    "unlinkat": ("EIO", "EROFS"),
    "chmod": ("EIO", "EROFS"),
    "fchmod": ("EIO", "EROFS"),
    "fchmodat": ("EIO", "EROFS"),
    "link": _META,
    "symlink": _META,
    "utimensat": ("EIO", "EROFS"),
    "setxattr": ("ENOSPC", "EIO"),
    "fsetxattr": ("ENOSPC", "EIO"),
    "flock": ("ENOLCK", "EIO"),
}
"""System calls that write to a disk, with the errors that each is made to meet."""

_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)")
_BY_NAME = ("rename", "mkdir", "rmdir", "unlink", "chmod", "link", "symlink", "setxattr")
"""Calls that are given a name as text, besides those of a folder and a name in it; the others are given a descriptor."""
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE")


@dataclass(frozen=True, slots=True)
class Step:
    """One call: what is done to which path, and which of the calls of that name on that path it is, counted from 1."""

    call: str
    path: str
    number: int

    @property
    def deletes(self) -> bool:
        """Whether it takes something away: where it fails something may stay."""
        return self.call in ("unlink", "unlinkat", "rmdir")

    def injection(self, error: str) -> list[str]:
        """Arguments of strace that make it fail."""
        return ["-P", self.path, "-e", f"trace={self.call}", "-e", f"inject={self.call}:error={error}:when={self.number}"]


def read_steps(log: Path, folder: Path) -> list[Step]:
    """The steps of a log that write into `folder`, in their order."""
    counts: Counter[tuple[str, str]] = Counter()
    steps = []
    for call, text in _calls(log):
        path = _path(call, text, folder)
        if path is None:
            continue
        counts[call, path] += 1
        if call != "openat" or _WRITES.search(text):
            steps.append(Step(call, path, counts[call, path]))
    return steps


def met(log: Path) -> bool:
    """Whether a call of a log was made to fail."""
    return "(INJECTED)" in log.read_text(errors="replace")


def chosen(steps: Sequence[Step], most: int) -> list[Step]:
    """At most `most` steps of each call, first, last and between."""
    by_call: defaultdict[str, list[Step]] = defaultdict(list)
    for step in steps:
        by_call[step.call].append(step)
    picked = []
    for same in by_call.values():
        if len(same) <= most:
            picked += same
        else:
            picked += [same[round(index * (len(same) - 1) / max(most - 1, 1))] for index in range(most)]
    return picked


def errors_of(step: Step, *, every_error: bool, turn: int) -> list[str]:
    """The errors that a step meets: all that fit, or the next one."""
    errors = CALLS[step.call]
    return list(errors) if every_error else [errors[turn % len(errors)]]


def _path(call: str, text: str, folder: Path) -> str | None:
    """The first path in `folder` that a call with these arguments is about."""
    named = "at" in call or call in _BY_NAME
    found = re.search(rf'["<]({re.escape(str(folder))}/[^">]*)[">]', text if named else text.partition(",")[0])
    return None if found is None else found[1]


def _calls(log: Path) -> Iterator[tuple[str, str]]:
    for line in log.read_text(errors="replace").splitlines():
        if (matched := _LINE.match(line)) is not None and matched[2] in CALLS:
            yield matched[2], matched[3]
