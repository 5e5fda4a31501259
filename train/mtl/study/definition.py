"""A study as a TOML file: a base configuration and rows that each change a few settings of it.

Knows settings and which runs a study consists of; knows nothing about processes, metrics or reports.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from mtl.config import apply_overrides, parse_config
from mtl.settings import RunSettings
from mtl.study.toml_tables import StudyError, TableReader, flat, merged, read_toml, toml_value

__all__ = ["Group", "LatencyRequest", "PicturesRequest", "PlannedRun", "Row", "Study", "Whole", "load_study"]


_WEIGHTED_TASK = "normals"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the comparison.

    Attributes:
        name: how the report calls it; unique within the study.
        groups: the tables it appears in, keys of `Study.groups`.
        overrides: nested settings, merged over the study's.
        seeds: one run each; empty takes the study's.
        run: whether it is run at all; a row that is not needs a `reason`, which the report repeats.
        after: an earlier row whose last weights, of the same seed, it starts from; empty for none.
    """

    name: str
    groups: tuple[str, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    run: bool = True
    reason: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A table of the report.

    Attributes:
        title: its heading.
        reference: the row that the others of the group are compared with.
    """

    title: str
    reference: str


@dataclass(frozen=True, slots=True)
class PicturesRequest:
    """Which rows predict which held-out frames (indices into the validation split) for the report."""

    rows: tuple[str, ...] = ()
    frames: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class LatencyRequest:
    """Which rows are timed as FP32 and INT8, and at which network size."""

    rows: tuple[str, ...] = ()
    height: int = 288
    width: int = 384


@dataclass(frozen=True, slots=True)
class Whole:
    """The study that this one is a cut of, none of whose rows is run here.

    Attributes:
        study: its TOML file, relative to that of the cut.
        reason: why it is not run.
    """

    study: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One row with one seed: the settings, and the arguments of train/train.py that mean the same."""

    row: Row
    seed: int
    settings: RunSettings
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return self.settings.name

    @property
    def after(self) -> Path | None:
        """The folder of the run whose last weights it starts from; None where there is none."""
        return Path(self.settings.model.init).parent if self.row.after else None

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.settings.folder) / self.settings.name


@dataclass(frozen=True, slots=True)
class Study:
    """A whole study.

    Attributes:
        path: the TOML file.
        reference: the row that stands for multi-task learning: one shared model, losses summed as they are.
        single: task -> the row that was trained for this task alone.
        weighted_task: the one that the answers about weighting the losses and about what sharing costs are about.
        groups: in the order of the report. Those called "tasks", "sharing", "weighting", "decoders" and "ablation" also get
            an answer of their own (see `mtl.study.answers`).
        notes: sentences for the report that no number can tell.
        whole: what it is a cut of; None where it is whole itself.
    """

    path: Path
    name: str
    title: str
    question: str
    base: Path
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    reference: str
    single: Mapping[str, str]
    groups: Mapping[str, Group]
    overrides: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    weighted_task: str = _WEIGHTED_TASK
    images: PicturesRequest = PicturesRequest()
    latency: LatencyRequest = LatencyRequest()
    whole: Whole | None = None

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def runs(self, folder: Path, *, only: Sequence[str] = (), extra: Mapping[str, str] | None = None) -> list[PlannedRun]:
        """Every run of every row, also of rows that are not run, seeds in turn so that all rows get their first one first.

        Args:
            folder: where the runs write.
            only: names of rows; empty for all.
            extra: settings from the command line, over everything.
        Raises:
            ConfigError: a row whose settings do not exist or do not fit, named.
            StudyError: a name in `only` that is not a row.
        """
        unknown = [name for name in only if name not in {row.name for row in self.rows}]
        if unknown:
            names = ", ".join(row.name for row in self.rows)
            raise StudyError(f"{self.path} has no row {unknown[0]!r}. Its rows: {names}")
        wanted = [row for row in self.rows if not only or row.name in only]
        base = read_toml(self.base)
        planned = [
            (turn, self._plan(row, seed, base, folder, extra or {}))
            for row in wanted
            for turn, seed in enumerate(row.seeds or self.seeds)
        ]
        return [run for _, run in sorted(planned, key=lambda pair: pair[0])]

    def _plan(self, row: Row, seed: int, base: Mapping[str, Any], folder: Path, extra: Mapping[str, str]) -> PlannedRun:
        changes = merged(merged(self.overrides, row.overrides), {"seed": seed, "name": run_name(row.name, seed)})
        if row.after:
            start = folder / run_name(row.after, seed) / "last.safetensors"
            changes = merged(changes, {"model": {"init": str(start), "pretrained": ""}})
        content = merged(merged(base, changes), {"folder": str(folder)})
        settings = parse_config(apply_overrides(content, extra), source=f"{self.path}, row {row.name!r}")
        arguments = ["--config", str(self.base), "--folder", str(folder)]
        for key, value in flat(changes).items():
            arguments += [f"--{key}", toml_value(value)]
        for key, text in extra.items():
            arguments += [f"--{key}", text]
        return PlannedRun(row, seed, settings, tuple(arguments))


def run_name(row: str, seed: int) -> str:
    """Folder of a run: "GLS, 3 tasks" and seed 1 -> "gls-3-tasks-s1"."""
    return f"{slug(row)}-s{seed}"


def slug(name: str) -> str:
    """A name as a plain word of a-z, 0-9 and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def load_study(path: Path) -> Study:
    """Read and check a study; the settings of its rows are checked by `Study.runs`.

    Raises:
        StudyError: unreadable, no TOML, unknown or missing keys, names that do not fit together.
    """
    content = read_toml(path)
    given = TableReader(content, str(path))
    reference = given.text("reference")
    rows = tuple(_row(item, given, index) for index, item in enumerate(given.tables("rows")))
    study = Study(
        path=path,
        name=slug(given.text("name")),
        title=given.text("title"),
        question=given.text("question"),
        base=Path(os.path.relpath(path.parent / given.text("base"))),
        rows=rows,
        seeds=tuple(given.items("seeds", int, default=(0,))),
        reference=reference,
        single=given.table("single"),
        groups={key: _group(key, item, given, reference) for key, item in given.table("groups").items()},
        overrides=given.table("overrides"),
        notes=tuple(given.items("notes", str, default=())),
        weighted_task=given.text("weighted_task", default=_WEIGHTED_TASK),
        images=_section(PicturesRequest, given, "pictures"),
        latency=_section(LatencyRequest, given, "latency"),
        whole=_whole(given),
    )
    given.nothing_else({item.name for item in fields(Study)} - {"path", "images"} | {"pictures"})
    _check(study)
    return study


def _whole(given: TableReader) -> Whole | None:
    content = given.table("whole", default={})
    if not content:
        return None
    one = TableReader(content, f"{given.source}, [whole]")
    one.nothing_else({item.name for item in fields(Whole)})
    return Whole(one.text("study"), one.text("reason"))


def _group(key: str, content: Any, given: TableReader, reference: str) -> Group:
    if not isinstance(content, Mapping):
        raise StudyError(f"{given.source}: groups.{key} should be a table with a title, found {content!r}")
    one = TableReader(content, f"{given.source}, groups.{key}")
    one.nothing_else({item.name for item in fields(Group)})
    return Group(one.text("title"), one.text("reference", default=reference))


def _row(content: Mapping[str, Any], given: TableReader, index: int) -> Row:
    one = TableReader(content, f"{given.source}, rows.{index}")
    name = one.text("name")
    one = TableReader(content, f"{given.source}, row {name!r}")
    row = Row(
        name=name,
        groups=tuple(one.items("groups", str)),
        overrides=one.table("overrides", default={}),
        seeds=tuple(one.items("seeds", int, default=())),
        run=bool(content.get("run", True)),
        reason=one.text("reason", default=""),
        after=one.text("after", default=""),
    )
    one.nothing_else({item.name for item in fields(Row)})
    return row


def _section(kind: Any, given: TableReader, name: str) -> Any:
    """A frozen dataclass of tuples and whole numbers from a table of the file."""
    content = given.table(name, default={})
    one = TableReader(content, f"{given.source}, [{name}]")
    one.nothing_else({item.name for item in fields(kind)})
    values: dict[str, Any] = {}
    for item in fields(kind):
        hint = typing.get_type_hints(kind)[item.name]
        default: Any = item.default if item.default is not MISSING else ()
        if hint is int:
            values[item.name] = one.number(item.name, default=default)
        else:
            values[item.name] = tuple(one.items(item.name, typing.get_args(hint)[0], default=default))
    return kind(**values)


def _check(study: Study) -> None:
    def require(fine: bool, message: str) -> None:
        if not fine:
            raise StudyError(f"{study.path}: {message}")

    names = [row.name for row in study.rows]
    slugs = [slug(name) for name in names]
    require(bool(names), "there should be at least one [[rows]]")
    require(all(slugs) and len(set(slugs)) == len(slugs), "names of rows should differ in more than punctuation")
    require(study.reference in names, f"reference is {study.reference!r}, which is not a row")
    beside = study.path.parent / study.whole.study if study.whole is not None else study.path
    require(beside.is_file(), f"whole.study is {beside}, which is no file")
    for task, name in study.single.items():
        require(name in names, f"single.{task} is {name!r}, which is not a row")
        trained = merged(study.overrides, study[name].overrides).get("model", {}).get("tasks", [task])
        require(list(trained) == [task], f"single.{task} is {name!r}, which is trained for {', '.join(trained)}")
    for name in (*study.images.rows, *study.latency.rows, *(group.reference for group in study.groups.values())):
        require(name in names, f"{name!r} of images, latency or a group's reference is not a row")
    for index, row in enumerate(study.rows):
        before = next((one for one in study.rows[:index] if one.name == row.after), None)
        require(not row.after or before is not None, f"row {row.name!r} is after {row.after!r}, which is no earlier row")
        if before is not None:
            known = set(before.seeds or study.seeds)
            require(set(row.seeds or study.seeds) <= known, f"row {row.name!r} has seeds that row {row.after!r} has not")
            require(before.run or not row.run, f"row {row.name!r} is after {row.after!r}, which is not run")
        strange = [group for group in row.groups if group not in study.groups]
        require(bool(row.groups) and not strange, f"row {row.name!r}: groups should be some of {', '.join(study.groups)}")
        require(row.run or bool(row.reason), f"row {row.name!r} is not run: it needs a reason")
        own = {"name", "seed", "folder"} & set(row.overrides)
        require(not own, f"row {row.name!r} sets {', '.join(sorted(own))}, which the study sets")
