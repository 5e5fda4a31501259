"""`dataset.toml` of a folder that gets pseudo-labels: the one that is there, completed where it lacks a task, or a new one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.tasks import Specs, TaskSpec
from edge_mtl.tasks.depth import MILLIMETRES, Depth, DepthSpec, units_per_m
from edge_mtl.tasks.labels import Labels, LabelsSpec
from edge_mtl.tasks.normals import Normals
from mtl.datasets.folder.camera import NoCamera, SharedCamera
from mtl.datasets.folder.description import DESCRIPTION, FolderDescription, read_description
from mtl.study.toml_tables import toml_value

__all__ = ["FOLDERS", "Described", "Stated", "describe_folder"]

FOLDERS: Mapping[str, str] = {Labels.name: "masks", Depth.name: Depth.name, Normals.name: Normals.name}
"""Where labels of a kind go in a new description; the name of the task where several share a kind."""

_VAL = 0.1
_IMAGES = "images"
_TERMS = (
    "state who may do what with the images: --licence TEXT (such as 'CC BY 4.0' or 'internal use only'), and "
    "--redistributable or --not-redistributable (may they be copied into bundles, reports and cards?)"
)
_CAMERA = "give the camera: --camera fx,fy,cx,cy or a camera_info YAML; or only --tasks of labels"


@dataclass(frozen=True, slots=True)
class Stated:
    """What a person said of the folder; None for what was not said.

    Attributes:
        title, licence, redistributable: see `FolderDescription`.
        camera: of all frames; its size is that of the first image where it was not said.
    """

    title: str | None = None
    licence: str | None = None
    redistributable: bool | None = None
    camera: SharedCamera | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """A description, and the text that has still to be written for it; None where it is there."""

    description: FolderDescription
    text: str | None

    def write(self) -> None:
        """Write what is missing. Raises BuildError where that does not work."""
        if self.text is not None:
            path = self.description.root / DESCRIPTION
            try:
                write_atomic(path, self.text.encode())
            except OSError as exc:
                raise BuildError(f"{path} cannot be written ({exc.strerror or exc}). Nothing was labelled") from exc


def describe_folder(root: Path, tasks: Specs, stated: Stated, *, first_size: Callable[[str], tuple[int, int]]) -> Described:
    """The description under which `tasks` are labelled. Writes nothing.

    Args:
        tasks: of the bundle, those to label.
        first_size: gives (H, W) of the first image in a folder below `root`, for a camera that is written without a size.
    Raises:
        BuildError: `dataset.toml` cannot be used or says something else than `stated`, or something has to be stated.
    """
    path = root / DESCRIPTION
    found = read_description(root) if path.exists() else None
    missing = {name: spec for name, spec in tasks.items() if found is None or name not in found.tasks}
    geometric = any(spec.kind != "labels" for spec in tasks.values())
    if found is None:
        if stated.licence is None or stated.redistributable is None:
            raise BuildError(f"{path} is not there, so it is made: {_TERMS}")
        if geometric and stated.camera is None:
            raise BuildError(f"{path} is not there, so it is made, and depth and normals need a camera: {_CAMERA}")
        return _parsed(root, _new_text(root, tasks, stated, first_size))
    _agrees(path, found, stated)
    without = isinstance(found.camera, NoCamera)
    if without and geometric and stated.camera is None:
        raise BuildError(f"{path} states no camera, and depth and normals need one: {_CAMERA}")
    if not missing and not (without and stated.camera is not None):
        return Described(found, None)
    tables = {f"tasks.{name}": _task_table(spec, tasks) for name, spec in missing.items()}
    if without and stated.camera is not None:
        tables["camera"] = _camera_table(stated.camera, lambda: first_size(found.images))
    before = path.read_text(encoding="utf-8")
    return _parsed(root, f"{before.rstrip()}\n\n{_tables_text(tables)}")


def _parsed(root: Path, text: str) -> Described:
    """Read a text as it will be read from the folder. Raises BuildError where it cannot be."""
    with tempfile.TemporaryDirectory(prefix="edge-mtl-") as folder:
        (Path(folder) / DESCRIPTION).write_text(text, encoding="utf-8")
        try:
            found = read_description(Path(folder))
        except BuildError as exc:
            reason = str(exc).replace(str(Path(folder)), str(root))
            raise BuildError(f"{root / DESCRIPTION} cannot be completed: {reason}. Add its tasks by hand") from exc
    return Described(replace(found, root=root), text)


def _agrees(path: Path, found: FolderDescription, stated: Stated) -> None:
    """Raises BuildError where the command says something else than the file."""
    for key in ("title", "licence", "redistributable"):
        ours, theirs = getattr(stated, key), getattr(found, key)
        if ours is not None and ours != theirs:
            raise BuildError(f"{path}: {key} is {theirs!r}, {ours!r} was asked for. Change it there, or leave it away here")
    camera = stated.camera
    if camera is None or isinstance(found.camera, NoCamera):
        return
    same = isinstance(found.camera, SharedCamera) and camera.intrinsics == found.camera.intrinsics
    if not same or (camera.size is not None and isinstance(found.camera, SharedCamera) and camera.size != found.camera.size):
        raise BuildError(f"{path} states another camera than {camera}. Change it there, or leave it away here")


def _new_text(root: Path, tasks: Specs, stated: Stated, first_size: Callable[[str], tuple[int, int]]) -> str:
    head = {
        "title": stated.title or root.resolve().name or "folder",
        "licence": stated.licence,
        "redistributable": stated.redistributable,
        "images": _IMAGES,
    }
    tables: dict[str, Mapping[str, Any]] = {}
    if stated.camera is not None:
        tables["camera"] = _camera_table(stated.camera, lambda: first_size(_IMAGES))
    tables["splits"] = {"val": _VAL}
    tables |= {f"tasks.{name}": _task_table(spec, tasks) for name, spec in tasks.items()}
    return f"{_lines(head)}\n{_tables_text(tables)}"


def _camera_table(camera: SharedCamera, first_size: Callable[[], tuple[int, int]]) -> dict[str, Any]:
    values = dict(zip(("fx", "fy", "cx", "cy"), map(float, camera.intrinsics), strict=True))
    return {**values, "size": list(camera.size or first_size())}


def _task_table(spec: TaskSpec, tasks: Specs) -> dict[str, Any]:
    alone = sum(other.kind == spec.kind for other in tasks.values()) == 1
    table: dict[str, Any] = {"kind": spec.kind, "folder": FOLDERS[spec.kind] if alone else spec.name}
    if isinstance(spec, LabelsSpec):
        table["classes"] = list(spec.classes)
        if spec.colours:
            table["colours"] = [list(colour) for colour in spec.colours]
        if spec.ignored:
            table["ignore_in_mean"] = [spec.classes[index] for index in spec.ignored]
        if spec.tolerance_px is not None:
            table["tolerance_px"] = spec.tolerance_px
    if isinstance(spec, DepthSpec):
        table |= {"scale_m": 1.0 / units_per_m(spec.range_m[1], finest=MILLIMETRES), "range_m": list(spec.range_m)}
    return table


def _tables_text(tables: Mapping[str, Mapping[str, Any]]) -> str:
    return "\n".join(f"[{name}]\n{_lines(table)}" for name, table in tables.items())


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in table.items())
