"""Our use of TensorRT's API against the real bindings of every supported version, and how libraries and plans are told apart.

Which names our code uses is read from its source, not listed here.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_mtl
from edge_mtl.backends.tensorrt import api
from edge_mtl.backends.tensorrt.api import Library, check_plan, find_library, has, library_of, member
from edge_mtl.errors import BackendUnavailable, BuildError, BundleError, EngineMismatch
from tests.tensorrt_bindings import VERSIONS, Surface, run_with, surface

ROOT = Path(edge_mtl.__file__).parent
SOURCES = sorted(
    path
    for folder in ("builder", "backends")
    for path in (ROOT / folder / "tensorrt").glob("*.py")
    if path.name not in ("profiling.py", "spec.py")  # which see engines and names, not the library
)


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stubs")


@pytest.fixture(scope="session")
def surfaces(stubs: Path) -> dict[str, Surface]:
    return {version: surface(version, stubs) for version in VERSIONS}


def attributes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(what it is taken from, attribute) of every attribute that may be the library's: the last name before the dot.

    The library's objects are annotated Any or not at all; what has an annotation of its own is ours, and so is `self`.
    """
    ours = {"self"}
    for node in ast.walk(tree):
        annotation = getattr(node, "annotation", None)
        if annotation is not None and "Any" not in ast.unparse(annotation):
            ours.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target).rpartition(".")[2])
    for node in ast.walk(tree):
        before = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(before, ast.Attribute) and before.attr not in ours - {"module"}:
            yield before.attr, node.attr
        elif isinstance(before, ast.Name) and before.id not in ours:
            yield before.id, node.attr
        elif isinstance(before, ast.Call) and isinstance(before.func, ast.Attribute):
            yield "", node.attr


def probes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(enum, member) of every call of `member` and every path given to `has`, where they are written out."""
    for node in ast.walk(tree):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if called not in ("member", "flag", "has"):
            continue
        texts = [argument.value for argument in node.args[1:] if isinstance(argument, ast.Constant)]
        if called == "has" and texts:
            kind, _, name = str(texts[0]).partition(".")
            yield kind, name
        elif len(texts) == 2:
            yield str(texts[0]), str(texts[1])


def misuses(source: str, surfaces: dict[str, Surface]) -> list[str]:
    """Names of TensorRT's API that `source` uses and that some version does not have."""
    known = {name for found in surfaces.values() for members in found.classes.values() for name in members}
    known |= {name for found in surfaces.values() for name in found.module}
    found = []
    for before, name in attributes(ast.parse(source)):
        if name.startswith("__") or name not in known:
            continue
        for version, here in surfaces.items():
            if before == "module":
                missing = name not in here.module
            elif before in here.classes:  # an enum: DataType.HALF
                missing = name not in here.classes[before]
            else:  # an object: those classes that its name may stand for, or any
                kinds = [kind for kind in here.classes if len(before) > 3 and before.strip("_s") in kind.lower()]
                named = [members for members in (here.classes[kind] for kind in kinds) if members]
                anywhere = name in here.module or any(name in members for members in here.classes.values())
                missing = not (any(name in members for members in named) or anywhere)
            if missing:
                found.append(f"{before}.{name} is not in {version}")
    return found


def test_the_sweep_covers_builder_and_runtime() -> None:
    names = {path.parent.parent.name for path in SOURCES}
    assert names == {"builder", "backends"}
    assert len(SOURCES) > 8


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_every_name_we_use_is_in_every_supported_version(path: Path, surfaces: dict[str, Surface]) -> None:
    assert misuses(path.read_text(), surfaces) == []


@pytest.mark.parametrize(
    "source",
    [
        "flag = library.module.BuilderFlag.FP16",
        "config.int8_calibrator = mine",
        "size = engine.device_memory_size",
        "engine = builder.build_engine_with_config(network, config)",
        "kind = library.module.IInt8EntropyCalibrator2",
    ],
)
def test_the_sweep_sees_what_a_version_lacks(source: str, surfaces: dict[str, Surface]) -> None:
    assert misuses(source, surfaces)


def test_probes_name_what_some_version_has(surfaces: dict[str, Surface]) -> None:
    asked = {found for path in SOURCES for found in probes(ast.parse(path.read_text()))}
    assert ("MemoryPoolType", "WORKSPACE") in asked
    for kind, name in asked:
        having = [version for version, here in surfaces.items() if kind in here.classes]
        assert having, f"{kind} is in no version"
        if name:
            assert any(name in surfaces[version].classes[kind] for version in having), f"{kind}.{name} is in no version"


def test_no_calibrator_is_named_anywhere() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            for value in (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "name", "")):
                assert "calibrator" not in str(value).lower(), path


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_a_library_that_does_not_start_is_a_typed_error(version: str, stubs: Path) -> None:
    code = """
import tensorrt_bindings as module
from edge_mtl.builder.tensorrt.builder import build_plan
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.errors import BackendUnavailable
from edge_mtl.backends.tensorrt.api import library_of
from tests.bundles import host_model
library = library_of(module, name="tensorrt")
try:
    build_plan(library, host_model(), PlanOptions(precision="fp32"))
except BackendUnavailable as exc:
    print(library.version_text, exc)
"""
    said = run_with(version, stubs, code)
    assert said.startswith(f"{version} TensorRT {version} does not start here")
    assert "edge-mtl doctor" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_options_that_a_version_lacks_are_named_with_it(version: str, surfaces: dict[str, Surface]) -> None:
    library = library_from(surfaces[version])
    for option, kind, name in (("typing=weak", "BuilderFlag", "FP16"), ("compat", "HardwareCompatibilityLevel", "X")):
        if name in surfaces[version].classes[kind]:
            assert has(library, f"{kind}.{name}")
            continue
        with pytest.raises(BuildError, match=f"{option} is not to be had with TensorRT {version}"):
            member(library, kind, name, option=option)
    assert has(library, "BuilderFlag.FP16") == version.startswith("10.")


def library_from(found: Surface) -> Library:
    """A library with the names of a version, so that this interpreter need not import it."""
    module = types.ModuleType("tensorrt")
    module.__version__ = found.version
    for kind, members in found.classes.items():
        setattr(module, kind, type(kind, (), dict.fromkeys(name for name in members if not name.startswith("__"))))
        for name in members:
            if not name.startswith("__"):
                setattr(getattr(module, kind), name, object())
    return library_of(module)


def test_a_version_that_is_too_old_is_refused() -> None:
    module = types.ModuleType("tensorrt")
    module.__version__ = "8.6.1"
    with pytest.raises(BackendUnavailable, match=r"TensorRT 8.6.1 is older than 10.3"):
        library_of(module)


def test_a_module_without_a_version_is_refused() -> None:
    with pytest.raises(BackendUnavailable, match="tells no version"):
        library_of(types.ModuleType("tensorrt"))


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "installed", lambda: ())
    with pytest.raises(BackendUnavailable, match=r'TensorRT is not installed.*pip install "edge-mtl\[tensorrt\]"'):
        find_library()
    with pytest.raises(BackendUnavailable, match="Unknown TensorRT library 'tensort'"):
        find_library("tensort")


def test_a_library_that_does_not_import_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> types.ModuleType:
        raise ImportError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(api, "installed", lambda: ("tensorrt",))
    monkeypatch.setattr(api.importlib, "import_module", broken)
    with pytest.raises(BackendUnavailable, match=r"tensorrt is not usable here \(libnvinfer.so.10"):
        find_library()


PLAIN = Library(None, "tensorrt", (10, 3, 0))
RTX = Library(None, "tensorrt_rtx", (1, 7, 1, 116))
BODY = bytes(range(256))


@pytest.mark.parametrize(
    ("library", "plan", "error"),
    [
        (PLAIN, b"ftrt" + BODY, None),
        (RTX, b"vtrt" + BODY, None),
        (PLAIN, b"vtrt" + BODY, EngineMismatch),
        (RTX, b"ftrt" + BODY, EngineMismatch),
        (PLAIN, b"", BundleError),
        (RTX, b"vtrt", BundleError),
        (PLAIN, b"ftrt" + BODY[:20], BundleError),
        (PLAIN, b"\x08\x0a\x12" + BODY, BundleError),
    ],
)
def test_size_and_first_bytes_are_looked_at_before_a_library_sees_a_plan(
    library: Library, plan: bytes, error: type[Exception] | None
) -> None:
    if error is None:
        check_plan(library, plan, source="plan", remedy="Build it.")
        return
    with pytest.raises(error, match="Build it") as caught:
        check_plan(library, plan, source="x.plan", remedy="Build it.")
    assert str(caught.value).startswith("x.plan")
    assert type(caught.value) is error
