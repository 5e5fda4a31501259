"""The folder that a command is told to write into: made and tried before minutes of measuring. Knows files only."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edge_mtl.errors import BuildError

__all__ = ["require_writable"]


def require_writable(folder: Path) -> None:
    """Make `folder` and try to write into it. Raises BuildError where that does not work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise BuildError(f"{folder} cannot be written to ({exc.strerror or exc}). Choose another folder: --out DIR") from exc
