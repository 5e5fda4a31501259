"""Outside `edge_mtl/backends` no code decides by the name of a runtime: it asks the specification, or `reference.py` there."""

from __future__ import annotations

import ast
from pathlib import Path

import edge_mtl
from edge_mtl.backends import BACKENDS, qdq_styles

PACKAGE = Path(edge_mtl.__file__).parent
OWNERS = ("backends", "builder/tensorrt")

ALLOWED = {
    "builder/triton.py": "Triton's names of its own backends",
    "cli/export.py": "Triton's names of its own backends",
    "cli/sensitivity.py": "the default of an option, which starts no registry",
}


def named_in(source: str) -> set[str]:
    """Names of runtimes and Q/DQ styles that stand alone in a string."""
    names = {*BACKENDS, *qdq_styles()}
    return {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant) and node.value in names}


def test_code_outside_the_backends_names_no_runtime() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if not place.startswith(OWNERS) and (names := named_in(path.read_text(encoding="utf-8"))):
            found[place] = names
    assert set(found) == set(ALLOWED), found


def test_the_search_finds_a_name() -> None:
    assert named_in('if backend == "openvino":\n    pass') == {"openvino"}
    assert named_in('"""openvino is a runtime"""') == set()
