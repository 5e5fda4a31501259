"""Positive controls: a store without its lock and writers without atomic steps, which the scenarios must find out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from edge_mtl.bundle import MANIFEST
from edge_mtl.engine_store import engines
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.sidecars import EngineRecord
from tests.reliability.races.scenarios import builders, engine_replaced, folder_replaced
from tests.reliability.races.stage import Stage

__all__ = ["CONTROLS"]

_AMID_S = 0.02


def without_lock(stage: Stage, seed: int) -> list[str]:
    """Builders whose store has a lock that locks nothing."""
    with mock.patch.object(engines, "exclusive", _open_to_all):
        return builders(stage, seed, processes=3)


def engine_in_place(stage: Stage, seed: int) -> list[str]:
    """A writer that describes an engine first and writes it into the place of the old one afterwards, half by half."""
    return engine_replaced(stage, seed, save=_save_in_place)


def folder_in_place(stage: Stage, seed: int) -> list[str]:
    """A bundle whose files are written over, one by one."""
    return folder_replaced(stage, seed, swap=_copy_in_place)


CONTROLS: dict[str, Callable[[Stage, int], list[str]]] = {
    "a store without its lock": without_lock,
    "an engine written in place": engine_in_place,
    "a bundle replaced file by file": folder_in_place,
}


@contextmanager
def _open_to_all(path: Path, **options: Any) -> Iterator[bool]:
    yield False


def _save_in_place(store: EngineStore, record: EngineRecord, payload: bytes) -> None:
    folder = store.folder
    (folder / f"{record.key}.json").write_bytes(record.to_json())
    with (folder / record.file).open("wb") as stream:
        for part in (payload[: len(payload) // 2], payload[len(payload) // 2 :]):
            stream.write(part)
            stream.flush()
            time.sleep(_AMID_S)


def _copy_in_place(source: Path, path: Path) -> None:
    shutil.copy2(source / MANIFEST, path / MANIFEST)
    for file in sorted(source.rglob("*")):
        if file.is_file() and file.name != MANIFEST:
            (path / file.relative_to(source)).parent.mkdir(exist_ok=True)
            (path / file.relative_to(source)).write_bytes(file.read_bytes())
            time.sleep(_AMID_S / 4)
