"""What is said where an optional package is missing, broken or an empty folder. Environments are folders of links."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_mtl.bundle import Bundle
from edge_mtl.errors import BackendUnavailable, BuildError, SystemFault
from edge_mtl.packages import import_package, look_for, package_error
from tests.site_folders import ONNXRUNTIME, SiteFolder

REINSTALL = "pip install --force-reinstall --no-deps"
CALL = "from edge_mtl.errors import EdgeMtlError\ntry:\n    {}\nexcept EdgeMtlError as exc: print(exc.exit_code, exc)"


def left_over(tmp_path: Path, package: str, distribution: str, *, without: tuple[str, ...] = ()) -> SiteFolder:
    """An environment in which `package` is what uninstalling another distribution left of it."""
    site = SiteFolder(tmp_path / "site", without=(package, f"{package}[-_.]*", *without))
    (site.path / package / "__pycache__").mkdir(parents=True)
    site.add_record(distribution, "1.0.0", (f"{package}/__init__.py",))
    return site


def said(site: SiteFolder, statement: str) -> str:
    """The message of the typed error that a program gets, after its exit code."""
    done = site.run("-c", CALL.format(statement))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("package", "distribution", "statement"),
    [
        ("onnx", "onnx", "from edge_mtl.onnx_graph.model import import_onnx; import_onnx()"),
        ("onnxruntime", "onnxruntime-gpu", "from edge_mtl.backends.reference import import_reference; import_reference('It')"),
        ("onnxruntime", "onnxruntime-gpu", "from edge_mtl.backends import open_backend; open_backend('onnxruntime', b'')"),
        ("openvino", "openvino", "from edge_mtl.backends import open_backend; open_backend('openvino', b'')"),
        (
            "rosbags",
            "rosbags",
            "from pathlib import Path; from edge_mtl.sources.bags import _opened; _opened(Path()).__enter__()",
        ),
        ("rerun", "rerun-sdk", "from edge_mtl.outputs.viewer import _rerun; _rerun()"),
        ("yaml", "PyYAML", "from mtl.pseudo_labels.cameras import parse_camera; parse_camera('a.yaml')"),
        ("OpenEXR", "OpenEXR", "from pathlib import Path; from mtl.datasets.folder.reading import _exr; _exr(Path('a'))"),
    ],
)
def test_an_empty_folder_is_no_package_and_the_repair_is_named(
    tmp_path: Path, package: str, distribution: str, statement: str
) -> None:
    text = said(left_over(tmp_path, package, distribution), statement)
    assert text.startswith("5 ")
    assert f"{package} is a folder without its module" in text
    assert text.strip().endswith(f"Run: {REINSTALL} {distribution}")


@pytest.mark.parametrize("package", ["pynvml", "tensorrt", "tensorrt_rtx", "pycuda"])
def test_an_empty_folder_of_a_gpus_package_counts_for_nothing(tmp_path: Path, package: str) -> None:
    site = left_over(tmp_path, package, package, without=("tensorrt*", "nvidia_ml_py*"))
    code = (
        "from edge_mtl.bench.sensors.find import gpu; from edge_mtl.backends.tensorrt.api import installed\n"
        "from edge_mtl.cuda import installed_binding\nprint(type(gpu()).__name__, installed(), installed_binding())"
    )
    done = site.run("-c", code)
    assert (done.stdout.strip(), done.stderr) == ("Unavailable () None", "")


@pytest.mark.training
@pytest.mark.parametrize("script", ["train/train.py", "train/export.py a", "train/import_checkpoint.py a --out b"])
def test_an_empty_folder_of_torch_ends_a_script_in_one_line(tmp_path: Path, script: str) -> None:
    done = left_over(tmp_path, "torch", "torch").run(*script.split())
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert done.stderr.strip().endswith(f"Run: {REINSTALL} torch")


def test_doctor_runs_where_onnx_is_an_empty_folder(tmp_path: Path) -> None:
    done = left_over(tmp_path, "onnx", "onnx").edge_mtl("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert all(f"{REINSTALL} onnx" in sums for sums in json.loads(done.stdout)["int8_sums"].values())


@pytest.mark.parametrize("broken", ["left over", "raise RuntimeError('wrong driver')", "__version__ = '1.31.1'"])
def test_auto_takes_the_next_runtime_where_the_first_is_broken_and_says_so(
    tmp_path: Path, own_bundle: Bundle, broken: str
) -> None:
    pytest.importorskip("openvino")
    site = SiteFolder(tmp_path / "site", without=ONNXRUNTIME)
    if broken == "left over":
        (site.path / "onnxruntime" / "capi").mkdir(parents=True)
    else:
        site.add_module("onnxruntime", broken)
    site.add_record("onnxruntime", "1.31.1", ("onnxruntime/__init__.py",))
    site.add_record("onnxruntime-openvino", "1.31.1", ())
    opened = f"from edge_mtl import Engine\nwith Engine({str(own_bundle.path)!r}) as engine: print(engine.info.backend)"
    done = site.run("-c", opened)
    assert done.stdout == "openvino\n", done.stderr
    assert f"Run: {REINSTALL} onnxruntime" in done.stderr  # a warning of the logger
    named = said(site, f"from edge_mtl import Engine; Engine({str(own_bundle.path)!r}, backend='onnxruntime')")
    assert named.startswith("5 ")
    assert f"Run: {REINSTALL} onnxruntime" in named


def test_an_engine_is_built_with_the_runtime_that_works(tmp_path: Path, own_bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    site = SiteFolder(tmp_path / "site", without=ONNXRUNTIME)
    site.add_module("onnxruntime", "raise RuntimeError('wrong driver')")
    done = site.edge_mtl("build-engine", str(own_bundle.path), "--fp32", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["engine"]["backend"] == "openvino"


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str) -> None:
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_package_that_lacks_a_name_or_does_not_import_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, monkeypatch, "an_old_package", "first = 1")
    module(tmp_path, monkeypatch, "a_broken_package", "raise OSError('libx.so: cannot open\\nmore')")
    module(tmp_path, monkeypatch, "a_lonely_package", "import a_missing_package")
    assert import_package("an_old_package", "first", use="It", install="x").first == 1
    for name, words in (
        ("an_old_package", f"It; {tmp_path / 'an_old_package.py'} lacks second. Run: "),
        ("a_broken_package", "It, which does not import (libx.so: cannot open). Run: "),
        ("a_lonely_package", "It, which needs a_missing_package, and that is not installed. Install it with: "),
        ("a_missing_package", "It, which is not installed here. Install it with: "),
    ):
        with pytest.raises(BackendUnavailable) as caught:
            import_package(name, "second", use="It", install="edge-mtl[x]")
        assert str(caught.value) == f'{words}pip install "edge-mtl[x]"'
    assert [look_for(name) for name in ("an_old_package", "a_missing_package", "a_missing.one")] == [
        "whole",
        "absent",
        "absent",
    ]


def test_an_import_that_fails_in_our_own_code_is_no_matter_of_installation() -> None:
    told = BuildError("no")
    assert package_error(told, install="x") is told
    with pytest.raises(ImportError):
        package_error(ImportError("cannot import name 'a'", name="mtl.run"), install="x")
    with pytest.raises(AttributeError):
        package_error(AttributeError("module 'json' has no attribute 'a'", name="a", obj=json), install="x")
    assert isinstance(
        package_error(ImportError("cannot import name 'a'", name="a_missing_package"), install="x"), BackendUnavailable
    )


def test_what_the_system_refuses_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="too long") as caught:
        (Path("/tmp") / ("x" * 300)).stat()
    found = package_error(caught.value, install="edge-mtl[train]")
    assert isinstance(found, SystemFault)
    assert str(found).startswith("File name too long (/tmp/xxx")
    unexplained = package_error(SystemError("error return without exception set"), install="edge-mtl[train]")
    assert isinstance(unexplained, SystemFault)
    assert "too little memory" in str(unexplained)
