"""Which commit the running code is from. Knows git; knows nothing about what is done with the answer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["commit", "described_commit"]


def commit() -> str | None:
    """The commit of the repository that this file is in, if git knows one."""
    return _git("rev-parse", "HEAD")


def described_commit() -> str:
    """The commit shortened, with "+changes" when files of the repository differ from it; "" where git knows none."""
    short = _git("rev-parse", "--short=10", "HEAD")
    if short is None:
        return ""
    return f"{short}+changes" if _git("status", "--porcelain", "--untracked-files=no") else short


def _git(*arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603  (fixed arguments)
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout.strip() or None
