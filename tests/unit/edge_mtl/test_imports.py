import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import edge_mtl

HEAVY = ("cv2", "torch", "torchvision", "timm", "onnx", "onnxruntime", "openvino", "tensorrt", "pycuda", "rclpy", "matplotlib")


def loaded_after(statement):
    """Heavy packages that a fresh interpreter has loaded after `statement`."""
    code = f"import json, sys\n{statement}\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import edge_mtl") == []


def test_importing_engine_loads_opencv_and_no_runtime():
    assert loaded_after("from edge_mtl import Engine") == ["cv2"]


def test_the_command_line_answers_help_without_opencv_or_a_runtime():
    code = "from edge_mtl.cli import main\nsys.argv = ['edge-mtl', '--help']\ntry: main()\nexcept SystemExit: pass"
    assert loaded_after(code) == []


def test_an_engine_needs_nothing_of_what_makes_engines_but_the_self_test():
    """The modules of the package that a fresh interpreter has loaded once an engine has predicted a frame."""
    code = (
        "import json, sys\nimport numpy as np\nfrom edge_mtl import Engine\nfrom edge_mtl.bundle import DEMO_BUNDLE\n"
        "with Engine(DEMO_BUNDLE, precision='fp32', threads=1) as engine: engine.predict(np.zeros((48, 64, 3), np.uint8))\n"
        "print(json.dumps(sorted(name for name in sys.modules if name.startswith('edge_mtl.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    workshop = ("quantization", "builder", "bench", "calibration", "cli", "outputs", "diagnosis")
    assert [name for name in loaded if name.split(".")[1] in workshop] == []
    assert {name for name in loaded if name.startswith("edge_mtl.evaluation.")} == {
        "edge_mtl.evaluation.metrics",
        "edge_mtl.evaluation.self_test",
    }
    assert "edge_mtl.inference_pipeline" in loaded, "the search sees what is loaded"


def test_the_control_sees_what_is_loaded():
    assert loaded_after("import cv2") == ["cv2"]


def test_the_public_names_are_pinned():
    assert edge_mtl.__all__ == [
        "AccuracyError",
        "BackendUnavailable",
        "BuildError",
        "BundleError",
        "CalibrationError",
        "DepthScaleError",
        "EdgeMtlError",
        "Engine",
        "EngineClosed",
        "EngineMismatch",
        "FrameError",
        "InferenceError",
        "Prediction",
        "Timing",
        "__version__",
    ]
    for name in edge_mtl.__all__:
        assert getattr(edge_mtl, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = edge_mtl.Motor


# Cycles


def modules(*roots: tuple[Path, str]) -> dict[str, Path]:
    """Every module below the packages `name` in the folders `root`, by its full name."""
    found = {}
    for root, name in roots:
        for path in sorted((root / name).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, known: dict[str, Path]) -> set[str]:
    """Modules of `known` that a module imports, at its top or in a function; what only a type checker reads apart."""
    tree = ast.parse(known[name].read_text(encoding="utf-8"))
    checked_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    package = name if known[name].name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in checked_only:
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and id(node) not in checked_only:
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {inner if (inner := f"{base}.{alias.name}") in known else base for alias in node.names}
    return (found & known.keys()) - {name}


def cycles(known: dict[str, Path]) -> list[list[str]]:
    """Groups of modules that import one another, directly or through others."""
    imports = {name: imported(name, known) for name in known}
    reached: dict[str, set[str]] = {}
    for name in known:
        seen, todo = set[str](), [name]
        while todo:
            new = imports[todo.pop()] - seen
            seen |= new
            todo += new
        reached[name] = seen
    together = {tuple(sorted({other for other in reached[name] if name in reached[other]})) for name in known}
    return sorted(list(group) for group in together if group)


def test_no_modules_import_one_another():
    root = Path(__file__).resolve().parents[3]
    assert cycles(modules((root, "edge_mtl"), (root / "train", "mtl"))) == []


def test_the_search_finds_a_cycle_through_a_function_and_a_relative_import(tmp_path):
    package = tmp_path / "some"
    (package / "deep").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "first.py": "def f():\n    from some import second\n",
        "second.py": "from .deep.third import g\n",
        "deep/__init__.py": "",
        "deep/third.py": "from ..first import f\n",
        "alone.py": "import some.first\n",
        "typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from some import user\n",
        "user.py": "import some.typed\n",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    assert cycles(modules((tmp_path, "some"))) == [["some.deep.third", "some.first", "some.second"]]
