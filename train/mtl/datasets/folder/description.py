"""`dataset.toml`: what a folder says of itself. An error names the file, the key, what was expected and what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.documents import parse_toml
from edge_mtl.errors import BuildError
from edge_mtl.tasks import KINDS, VOID, Specs, TaskSpec, ordered
from edge_mtl.tasks.boxes import BoxesKind
from edge_mtl.tasks.frame_class import FrameClass
from edge_mtl.tasks.kind import TASK_NAME
from mtl.datasets.folder.camera import Camera, read_camera
from mtl.datasets.folder.section import Section, shown
from mtl.datasets.folder.splits import Splits, read_splits
from mtl.datasets.folder.truth_files import UNDECLARED, DepthFiles, JsonFiles, MaskFiles, NormalFiles, TruthFiles
from mtl.datasets.normal_axes import NormalAxes

__all__ = ["DESCRIPTION", "FolderDescription", "read_description"]

DESCRIPTION = "dataset.toml"
_AXES = re.compile(r"(?:[+-][xyz]){3}")
_GUIDE = "docs/guides/own-data.md has the layout"


@dataclass(frozen=True, slots=True)
class FolderDescription:
    """What `dataset.toml` says.

    Attributes:
        root: the folder.
        title, licence: for provenance, cards and reports.
        redistributable: whether its images may be copied into bundles, reports and cards.
        images: folder of the images, below `root`.
        tasks: in the order of reports.
        files: by task, where its truths are and what their values mean.
    """

    root: Path
    title: str
    licence: str
    redistributable: bool
    images: str
    camera: Camera
    splits: Splits
    tasks: Specs
    files: Mapping[str, TruthFiles]


def read_description(root: Path) -> FolderDescription:
    """Read and check `root`/dataset.toml.

    Raises:
        BuildError: there is none, or a key is unknown, missing or wrong.
    """
    path = root / DESCRIPTION
    try:
        content = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BuildError(f"{path} is not there: expected a folder of images described by it. {_GUIDE}") from None
    except OSError as exc:
        raise BuildError(f"{path} cannot be read ({exc.strerror or exc}). {_GUIDE}") from exc
    except ValueError as exc:
        raise BuildError(f"{path} is not TOML: {exc}. {_GUIDE}") from exc
    top = Section(content, path)
    title = top.text("title", "what the data set is called, text", root.resolve().name or "folder")
    licence = top.text("licence", 'the terms of the images, text such as "CC BY 4.0" or "internal use only"')
    redistributable = top.flag("redistributable", "true or false: may its images be copied into bundles and reports?")
    images = top.folder("images", "images")
    tasks, files = _tasks(top.section("tasks", "a table [tasks.NAME] for each task"))
    camera = read_camera(top, needed=any(isinstance(one, (DepthFiles, NormalFiles)) for one in files.values()))
    splits = read_splits(top.section("splits", "a table with shares or lists: val = 0.1, test = 0.1"))
    top.done()
    return FolderDescription(root, title, licence, redistributable, images, camera, splits, tasks, files)


def _tasks(table: Section) -> tuple[Specs, dict[str, TruthFiles]]:
    specs: dict[str, TaskSpec] = {}
    files: dict[str, TruthFiles] = {}
    for name in table.content:
        if not TASK_NAME.fullmatch(name):
            raise table.error(name, f"expected a name of a task such as segmentation, matching {TASK_NAME.pattern}")
        own = table.section(name, "a table with kind and folder")
        kind = own.choice("kind", tuple(_READERS))
        specs[name], files[name] = _READERS[kind](own, name)
        own.done()
    if not specs:
        raise table.error("", "expected a table [tasks.NAME] for at least one task")
    return ordered(specs), {name: files[name] for name in ordered(specs)}


def _labels(table: Section, name: str) -> tuple[TaskSpec, MaskFiles]:
    folder = table.folder("folder")
    noun = f"a list of 2 to {VOID} different names"
    classes = table.take("classes", noun)
    named = isinstance(classes, list) and all(isinstance(one, str) and one.strip() for one in classes)
    if not named or not 2 <= len(classes) <= VOID or len(set(classes)) < len(classes):
        twice = next((one for one in classes if classes.count(one) > 1), None) if named else None
        raise table.error("classes", f"expected {noun}, found {shown(classes)}" + (f", {twice!r} twice" if twice else ""))
    entry = {"classes": classes}
    for key in ("colours", "ignore_in_mean", "tolerance_px"):
        if table.has(key):
            entry[key] = table.content[key]
    spec = _spec(MaskFiles.kind, name, entry, table)
    return spec, MaskFiles(folder, _table(table, classes))


def _table(table: Section, classes: list[str]) -> np.ndarray:
    """(256,) int16, see `MaskFiles.table`."""
    found = np.full(VOID + 1, UNDECLARED, np.int16)
    if table.has("values"):
        values = table.section("values", 'a table of index in the file -> class, such as {7 = "floor"}')
        for key, one in values.content.items():
            if not key.isdecimal() or int(key) >= VOID:
                raise values.error(key, f"expected an index of 0 to {VOID - 1}")
            if one not in classes:
                raise values.error(key, f"expected one of the classes, found {shown(one)}")
            found[int(key)] = classes.index(one)
        absent = [one for index, one in enumerate(classes) if index not in found]
        if absent:
            raise table.error("values", f"expected an index for every class, found none for {', '.join(absent[:5])}")
    else:
        found[: len(classes)] = np.arange(len(classes))
    void = table.take("void", "a list of indices", [])
    whole = isinstance(void, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in void)
    if not whole or not all(0 <= one <= VOID for one in void):
        raise table.error("void", f"expected a list of indices of 0 to {VOID}, found {shown(void)}")
    for index in void:
        if found[index] != UNDECLARED:
            taken = classes[int(found[index])]
            raise table.error("void", f"{index} is the index of the class {taken!r} too. Give the classes' indices in values")
        found[index] = VOID
    found[VOID] = VOID
    return found


def _depth(table: Section, name: str) -> tuple[TaskSpec, DepthFiles]:
    folder = table.folder("folder")
    scale = None
    if table.has("scale_m"):
        scale = table.number("scale_m", "metres a unit of the 16-bit PNG, above 0, such as 0.001", above=0)
    noun = "[nearest, farthest] in metres, the nearer first"
    near, far = table.numbers("range_m", noun, 2)
    if not 0 <= near < far:
        raise table.error("range_m", f"expected {noun}, found {[near, far]}")
    return _spec(DepthFiles.kind, name, {"range_m": [near, far]}, table), DepthFiles(folder, scale, (near, far))


def _normals(table: Section, name: str) -> tuple[TaskSpec, NormalFiles]:
    folder = table.folder("folder")
    noun = "axes written like +x-y-z: which stored component, with which sign, is the camera's x, y and z"
    text = table.text("axes", noun, "+x+y+z")
    if not _AXES.fullmatch(text) or not set("xyz") <= set(text):
        raise table.error("axes", f"expected {noun}, found {shown(text)}")
    return _spec(NormalFiles.kind, name, {}, table), NormalFiles(folder, NormalAxes.parse(text))


def _no_map(kind: str, table: Section, name: str) -> tuple[TaskSpec, JsonFiles]:
    """A task whose keys are those that its kind has in manifests."""
    folder = table.folder("folder")
    table.take("classes", "a list of names")
    entry = {key: value for key, value in table.content.items() if key not in ("kind", "folder")}
    spec = _spec(kind, name, entry, table)
    for key in KINDS[kind].describe(spec):
        table.has(key)
    return spec, JsonFiles(folder, spec)


def _spec(kind: str, name: str, entry: Mapping[str, Any], table: Section) -> TaskSpec:
    """What the kind makes of an entry, its refusal as ours."""
    try:
        spec: TaskSpec = KINDS[kind].spec(name, entry)
    except ValueError as exc:
        raise table.error("", str(exc)) from exc
    return spec


_READERS: dict[str, Any] = {
    MaskFiles.kind: _labels,
    DepthFiles.kind: _depth,
    NormalFiles.kind: _normals,
    **{kind: partial(_no_map, kind) for kind in (BoxesKind.name, FrameClass.name)},
}
"""By kind, what reads its table: the kinds whose truths can be files."""
