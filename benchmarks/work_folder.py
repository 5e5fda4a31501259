"""A folder where a benchmark keeps what takes long to make: a second run starts at once, and a stopped one continues.

Knows names and bytes; knows nothing about what is measured. Files are written whole or not at all. What decides a
file's content is part of its name; the code that made it is not, so every file says of which commit it is: delete the folder
to have everything made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_mtl.bench.conditions import commit
from edge_mtl.files import sha256_bytes, write_atomic

__all__ = ["WorkFolder"]

_DIGITS = 12
_MADE = "made.json"


class WorkFolder:
    """One folder; several runs may use it one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def kept(self, name: str, decided_by: Mapping[str, Any], make: Callable[[], bytes]) -> Path:
        """The file `name` for these circumstances, made now if it is not there.

        Args:
            decided_by: plain values that decide the content.
            make: gives the content.
        """
        path = self.place(name, decided_by)
        if not path.is_file():
            self.keep(path, make())
        return path

    def place(self, name: str, decided_by: Mapping[str, Any]) -> Path:
        """Where such a file lies; it need not be there."""
        digest = sha256_bytes(json.dumps(decided_by, sort_keys=True, default=str).encode())[:_DIGITS]
        stem, dot, suffix = name.partition(".")
        return self.path / f"{stem}-{digest}{dot}{suffix}"

    def keep(self, path: Path, payload: bytes) -> None:
        """Write a file of this folder, and which code made it."""
        write_atomic(path, payload)
        known = self.made()
        known[path.name] = {"commit": commit(), "date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        write_atomic(self.path / _MADE, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())

    def made(self) -> dict[str, Any]:
        """By file: commit of the code that made it, and when."""
        try:
            found = json.loads((self.path / _MADE).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def commits(self) -> list[str]:
        """Of all files that are kept here, each once; for the page of the results."""
        return sorted({str(entry.get("commit")) for entry in self.made().values()})
