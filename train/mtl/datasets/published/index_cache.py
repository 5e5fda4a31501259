"""Tables that are made once of large data sets and kept: arrays and a few plain values, in the user's cache folder.

A table is used while the files and folders that it was made of have the time and size that they had then.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from edge_mtl.console import Console
from edge_mtl.documents import parse_json
from edge_mtl.engine_store.engines import cache_folder
from edge_mtl.files import sha256_bytes, write_atomic

__all__ = ["Advance", "Names", "Table", "cached_table", "index_folder", "shown_name"]

Array = np.ndarray
Advance = Callable[[int, int], None]
"""(done, in all)."""

_FORMAT = 1
_TRUSTED_S = 1.0
"""How long files are taken to be as they were: a run asks at every step."""
_META = "meta"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What was found: arrays by name, and plain values for JSON."""

    arrays: Mapping[str, Array]
    meta: Mapping[str, Any]


class Names:
    """Many file names in little memory: one array of bytes. Names need not be UTF-8.

    Args:
        payload: (bytes,) uint8, the names one after the other.
        ends: (N,) int64, where each ends.
    """

    def __init__(self, payload: Array, ends: Array) -> None:
        self._payload, self._ends = payload, ends

    @classmethod
    def packed(cls, names: Sequence[str], key: str) -> dict[str, Array]:
        """The arrays of a table that hold `names`, under `key`."""
        encoded = [os.fsencode(name) for name in names]
        ends = np.cumsum([len(one) for one in encoded], dtype=np.int64) if encoded else np.zeros(0, np.int64)
        return {key: np.frombuffer(b"".join(encoded), np.uint8), f"{key}_ends": ends}

    @classmethod
    def of(cls, table: Table, key: str) -> Names:
        """Those that `packed` made."""
        return cls(table.arrays[key], table.arrays[f"{key}_ends"])

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self._ends):
            raise IndexError(index)
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._payload[start : int(self._ends[index])].tobytes())


def shown_name(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def index_folder() -> Path:
    """Where tables are kept: below $XDG_CACHE_HOME/edge_mtl, by default ~/.cache/edge_mtl."""
    return cache_folder() / "data-sets"


def cached_table(
    name: str, place: Path, watched: Callable[[], Sequence[Path]], make: Callable[[Advance], Table], *, options: str = ""
) -> Table:
    """A table, made where none is kept that still holds.

    Args:
        name: what it is of, for its file and the progress bar: "coco-train".
        place: of the data set; part of what tells tables apart.
        watched: lists the files and folders that it depends on.
        make: makes it, told how far it is. What it raises is raised.
        options: anything else that it depends on.
    """
    key = (name, str(place), options)
    kept, now = _KEPT.get(key), time.monotonic()
    if kept is not None and now - kept.seen < _TRUSTED_S:
        return kept.table
    stamp = _stamp(watched())
    if kept is None or kept.stamp != stamp:
        file = index_folder() / f"{name}-{sha256_bytes(os.fsencode(f'{place.absolute()}|{options}'))[:16]}.npz"
        table = _read(file, stamp)
        if table is None:
            with _bar(f"index of {name}") as advance:
                table = make(advance)
            _write(file, table, stamp)
        kept = _Kept(table, stamp, now)
    _KEPT[key] = _Kept(kept.table, kept.stamp, now)
    return kept.table


@dataclass(frozen=True, slots=True)
class _Kept:
    """A table of this process, what it depends on, and when that was last looked at."""

    table: Table
    stamp: str
    seen: float


_KEPT: dict[tuple[str, str, str], _Kept] = {}


def _stamp(paths: Sequence[Path]) -> str:
    """A digest of names, times and sizes."""
    facts = []
    for path in paths:
        try:
            found = path.stat()
            facts.append(f"{path}|{found.st_mtime_ns}|{found.st_size}")
        except OSError:
            facts.append(f"{path}|-")
    return sha256_bytes("\n".join([str(_FORMAT), *facts]).encode("utf-8", "surrogateescape"))


def _read(file: Path, stamp: str) -> Table | None:
    """The table of a file; None where there is none, it is damaged, or it is of other files."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        meta = parse_json(arrays.pop(_META).tobytes())
    except Exception:  # damaged archives raise many kinds
        return None
    return Table(arrays, meta["meta"]) if isinstance(meta, dict) and meta.get("stamp") == stamp else None


def _write(file: Path, table: Table, stamp: str) -> None:
    """Keep a table; where that cannot be, say so: every process makes its own then."""
    meta = np.frombuffer(json.dumps({"stamp": stamp, "meta": table.meta}).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **{_META: meta}, **table.arrays)  # type: ignore[arg-type]
    try:
        write_atomic(file, buffer.getvalue())
    except OSError as exc:
        print(
            f"the index {file} cannot be kept ({exc.strerror or exc}), so that every process makes its own: "
            "set XDG_CACHE_HOME to a folder that can be written",
            file=sys.stderr,
        )


@contextmanager
def _bar(title: str) -> Iterator[Advance]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
