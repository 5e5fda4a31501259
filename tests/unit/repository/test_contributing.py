"""CONTRIBUTING.md lists the files that an addition touches: whoever names what is there already is in the list."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from edge_mtl.backends import BACKENDS
from edge_mtl.tasks import KINDS

ROOT = Path(__file__).parents[3]
PACKAGES = ("edge_mtl", "train/mtl", "ros2_ws/src/edge_mtl/edge_mtl_ros")

NAMING_TASKS = {
    "edge_mtl/prediction.py": "the attributes segmentation, depth and normals, which stay for good",
    "train/mtl/datasets/ade20k/source.py": "what the classes of ADE20K are called unless settings give another name",
    "train/mtl/datasets/bdd100k/classes.py": "what the classes of BDD100K's pixels are called where settings do not",
    "train/mtl/datasets/cityscapes.py": "the same for Cityscapes",
    "train/mtl/datasets/nyuv2/images.py": "what dataset.json says of the normals",
    "train/mtl/datasets/nyuv2/official.py": "the folders and variables of the official files",
    "train/mtl/datasets/nyuv2/parquet.py": "the columns of the parquet copy",
    "train/mtl/datasets/rooms/shards.py": "the names of the arrays of the cache",
    "train/mtl/datasets/streets/shards.py": "the names of the arrays of the cache",
    "train/mtl/datasets/streets/tasks.py": "the tasks of a world",
    "train/mtl/foreign_names.py": "the heads of checkpoints of LibMTL",
    "train/mtl/study/definition.py": "the default of a study's question, which asks about the study's third task",
}
"""Modules outside the folders called tasks that name one of the study's tasks, each with its reason."""


def section(title: str) -> set[str]:
    """The paths in backticks below a heading of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (body,) = re.findall(rf"^### {title}\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    return {path for path in re.findall(r"`([\w./-]+)`", body) if (ROOT / path).exists() and "/" in path}


def importers(module: str) -> set[str]:
    """Files of the packages that import `module` or something from it, at their top or in a function."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names += [f"{node.module}.{alias.name}" for alias in node.names]
                if any(name == module or name.startswith(f"{module}.") for name in names):
                    found.add(path.relative_to(ROOT).as_posix())
    return found


@pytest.mark.parametrize(
    ("title", "modules", "own"),
    [
        ("Add a decoder", ("mtl.models.edge", "mtl.models.aspp"), ("train/mtl/models/edge", "train/mtl/models/aspp")),
        ("Add a backbone", ("mtl.models.deploy_pvt",), ()),
        (
            "Add a data set",
            ("mtl.datasets.nyuv2", "mtl.datasets.rooms"),
            ("train/mtl/datasets/nyuv2", "train/mtl/datasets/rooms"),
        ),
        ("Add a kind of task", ("mtl.tasks.depth", "mtl.tasks.normals", "mtl.tasks.labels"), ()),
        ("Add a backend", ("edge_mtl.backends.openvino",), ("edge_mtl/backends/openvino",)),
        ("Add a loss weighting", ("mtl.weighting.dwa", "mtl.weighting.famo", "mtl.weighting.uncertainty"), ()),
    ],
)
def test_whoever_imports_an_example_is_in_the_list(title: str, modules: tuple[str, ...], own: tuple[str, ...]) -> None:
    listed = section(title)
    naming = {path for module in modules for path in importers(module) if not path.startswith(own or ("-",))}
    assert naming, "the search finds the importers that there are"
    assert naming <= listed, f"### {title} should list {', '.join(sorted(naming - listed))}"


def test_outside_the_folders_of_kinds_few_modules_name_a_task_each_for_a_reason() -> None:
    pattern = re.compile(r"""\b(SEGMENTATION|DEPTH|NORMALS)\b|["'](segmentation|normals)["']""")
    found = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "tasks" not in path.relative_to(ROOT).parts and pattern.search(path.read_text(encoding="utf-8"))
    }
    assert found == set(NAMING_TASKS)
    assert len(found) <= 12


def test_a_kind_and_a_runtime_from_outside_are_two_files() -> None:
    for folder in ("edges", "toy_runtime"):
        files = [path for path in (ROOT / "tests" / "plugins" / folder).glob("*.py") if path.name != "__init__.py"]
        assert len(files) == 2, folder


def test_every_kind_and_every_runtime_is_where_the_lists_say() -> None:
    for kind in KINDS.values():
        module = type(kind).__module__.replace(".", "/")
        assert module.startswith(("edge_mtl/tasks/", "tests/")), module
        if module.startswith("edge_mtl"):
            assert (ROOT / "train" / "mtl" / "tasks" / f"{Path(module).name}.py").is_file()
    for name in BACKENDS:
        if (folder := ROOT / "edge_mtl" / "backends" / name.replace("-", "_")).is_dir():
            assert (folder / "spec.py").is_file()
