"""The outdoors study as a TOML file: which networks are trained, and which frames each of them is measured on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mtl.datasets.corruptions import CORRUPTIONS, SEVERITIES
from mtl.datasets.streets.classes import TIMES, WEATHERS
from mtl.study.definition import Row, Study, slug
from mtl.study.toml_tables import StudyError, TableReader, read_toml

__all__ = ["CellsRequest", "CorruptionsRequest", "FocalRequest", "OutdoorsStudy", "TransferRequest", "load_outdoors"]


@dataclass(frozen=True, slots=True)
class CellsRequest:
    """Every cell of weather x time of day, of the same streets.

    Attributes:
        rows: whose networks are measured in them.
        home: the cell that "trained in one cell" means, weather and time.
        frames: of each cell; the same streets in all of them.
    """

    rows: tuple[str, ...]
    home: tuple[str, str] = ("clear", "daytime")
    frames: int = 24


@dataclass(frozen=True, slots=True)
class CorruptionsRequest:
    """Corruptions of the frames of the home cell.

    Attributes:
        rows: whose networks are measured; empty for no corruptions.
        kinds: some of `mtl.datasets.corruptions.CORRUPTIONS`.
        severities: some of 1 to 5.
    """

    rows: tuple[str, ...] = ()
    kinds: tuple[str, ...] = CORRUPTIONS
    severities: tuple[int, ...] = SEVERITIES[1:]
    frames: int = 24


@dataclass(frozen=True, slots=True)
class FocalRequest:
    """The streets of the home cell through other lenses; `factors` are of the canonical focal length."""

    rows: tuple[str, ...] = ()
    factors: tuple[float, ...] = (0.6, 0.75, 0.9, 1.1, 1.35, 1.6)
    frames: int = 24


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """Rooms and streets, each measured by networks of both.

    Attributes:
        rows: whose networks are measured.
        bundles: folders of bundles that are measured, too.
        rooms: folder of rendered rooms.
    """

    rows: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()
    rooms: str = "data/rooms"
    frames: int = 24


@dataclass(frozen=True, slots=True)
class OutdoorsStudy:
    """The whole of it. `study` is what is trained, see `mtl.study.definition`; it has rows only, and no tables of its own."""

    study: Study
    streets: str
    cells: CellsRequest
    corruptions: CorruptionsRequest
    focal: FocalRequest
    transfer: TransferRequest


_SECTIONS: Mapping[str, Any] = {
    "cells": CellsRequest,
    "corruptions": CorruptionsRequest,
    "focal": FocalRequest,
    "transfer": TransferRequest,
}
_KEYS = {"name", "title", "question", "base", "rows", "seeds", "overrides", "notes", "streets", *_SECTIONS}


def load_outdoors(path: Path) -> OutdoorsStudy:
    """Read and check a study; settings of its rows are checked by `Study.runs`.

    Raises:
        StudyError: unreadable, no TOML, unknown or missing keys, names that do not fit together, values out of range.
    """
    given = TableReader(read_toml(path), str(path))
    given.nothing_else(_KEYS)
    rows = tuple(_row(item, given, index) for index, item in enumerate(given.tables("rows")))
    names = [row.name for row in rows]
    if not names or len(set(names)) != len(names):
        raise StudyError(f"{path}: rows should be one or more, each with a name of its own; found {', '.join(names) or 'none'}")
    study = Study(
        path=path,
        name=slug(given.text("name")),
        title=given.text("title"),
        question=given.text("question"),
        base=Path(os.path.relpath(path.parent / given.text("base"))),
        rows=rows,
        seeds=tuple(given.items("seeds", int, default=(0,))),
        reference=names[0],
        single={},
        groups={},
        overrides=given.table("overrides", default={}),
        notes=tuple(given.items("notes", str, default=())),
    )
    parts = {name: _section(kind, given, name, names) for name, kind in _SECTIONS.items()}
    _check(path, **parts)
    return OutdoorsStudy(study, given.text("streets", default="data/streets"), **parts)


def _row(content: Mapping[str, Any], given: TableReader, index: int) -> Row:
    one = TableReader(content, f"{given.source}, rows.{index}")
    one.nothing_else({"name", "overrides", "seeds"})
    seeds = tuple(one.items("seeds", int, default=()))
    return Row(one.text("name"), (), one.table("overrides", default={}), seeds)


def _section(kind: Any, given: TableReader, name: str, rows: list[str]) -> Any:
    """A frozen dataclass of tuples, texts and whole numbers from a table of the file."""
    content = given.table(name, default={})
    one = TableReader(content, f"{given.source}, [{name}]")
    one.nothing_else({item.name for item in fields(kind)})
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key == "frames":
            found[key] = one.number(key)
            if found[key] < 1:
                raise StudyError(f"{one.source}: frames should be 1 or more, found {found[key]}")
        elif isinstance(value, list):
            found[key] = tuple(value)
        else:
            found[key] = one.text(key)
    strange = [row for row in found.get("rows", ()) if row not in rows]
    if strange:
        raise StudyError(f"{one.source}: {strange[0]!r} is not a row. The rows: {', '.join(rows)}")
    if kind is CellsRequest and not found.get("rows"):
        raise StudyError(f"{one.source}: rows should name one or more of {', '.join(rows)}")
    return kind(**found)


def _check(
    path: Path, cells: CellsRequest, corruptions: CorruptionsRequest, focal: FocalRequest, transfer: TransferRequest
) -> None:
    if len(cells.home) != 2 or cells.home[0] not in WEATHERS or cells.home[1] not in TIMES:
        known = f"one of {', '.join(WEATHERS)} and one of {', '.join(TIMES)}"
        raise StudyError(f"{path}, [cells]: home should be {known}; found {', '.join(map(str, cells.home))}")
    strange = [one for one in corruptions.kinds if one not in CORRUPTIONS]
    if strange:
        raise StudyError(f"{path}, [corruptions]: kinds are {', '.join(CORRUPTIONS)}; found {strange[0]!r}")
    if any(one not in SEVERITIES[1:] for one in corruptions.severities):
        raise StudyError(f"{path}, [corruptions]: severities are 1 to 5; found {', '.join(map(str, corruptions.severities))}")
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) or one <= 0 for one in focal.factors):
        raise StudyError(f"{path}, [focal]: factors should be above 0; found {', '.join(map(str, focal.factors))}")
    if any(not isinstance(one, str) for one in transfer.bundles):
        raise StudyError(f"{path}, [transfer]: bundles should be folders; found {transfer.bundles!r}")
