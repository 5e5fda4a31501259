"""Reading files that are as trusted as code: folders that only this user can write to, no links, size and digest checked.

Knows files; knows nothing about engines.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_mtl.errors import BundleError
from edge_mtl.files import sha256_bytes
from edge_mtl.remedies import told

__all__ = ["check_owner", "read_checked"]


def check_owner(folder: Path, *, remedy: str) -> None:
    """Only this user or root may have written what is in `folder`.

    Args:
        remedy: the end of the message: what to do.
    Raises:
        BundleError: it belongs to another user, others may write to it, or it cannot be read.
    """
    if not hasattr(os, "getuid"):
        return
    try:
        facts = folder.stat()
    except OSError as exc:
        raise BundleError(f"The engine folder {folder} cannot be read {told(exc)}") from exc
    if facts.st_uid not in (os.getuid(), 0):
        raise BundleError(f"{folder} belongs to user {facts.st_uid}, not to this one: its engines are not trusted. {remedy}")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BundleError(f"{folder} can be written by other users: its engines are not trusted. Run: chmod 700 {folder}")


def read_checked(path: Path, *, size: int, sha256: str, what: str, remedy: str) -> bytes:
    """The bytes of `path`, which are those that were recorded.

    Args:
        what: what the file is, the start of the message.
        remedy: the end of the message: what to do.
    Raises:
        BundleError: missing, a link, a folder or pipe, unreadable, or altered.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe is not waited for
    try:
        descriptor = os.open(path, flags)
    except OSError as exc:
        raise BundleError(f"{what} {path} cannot be opened ({exc.strerror}). {remedy}") from exc
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != size:
            raise BundleError(f"{what} {path} was altered: {size} bytes expected, {facts.st_size} found. {remedy}")
        with open(descriptor, "rb", closefd=False) as stream:
            payload = stream.read(size + 1)
    except OSError as exc:
        raise BundleError(f"{what} {path} cannot be read ({exc.strerror}). {remedy}") from exc
    finally:
        os.close(descriptor)
    if len(payload) != size or sha256_bytes(payload) != sha256:
        raise BundleError(f"{what} {path} was altered: its SHA-256 differs from the one recorded. {remedy}")
    return payload
