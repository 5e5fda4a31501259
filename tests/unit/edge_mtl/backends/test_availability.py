"""What is said where ONNX Runtime is installed in part. Environments are folders of links: no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.site_folders import ONNXRUNTIME, SiteFolder

CHECK = """
import json
from edge_mtl.backends import available, proven
from edge_mtl.errors import BackendUnavailable
print(json.dumps([[found["onnxruntime"].usable, found["onnxruntime"].reason] for found in (available(), proven())]))
"""


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    """An environment like this one, without ONNX Runtime and OpenVINO."""
    return SiteFolder(tmp_path / "site", without=(*ONNXRUNTIME, "openvino*"))


def found_in(site: SiteFolder) -> list[tuple[bool, str]]:
    """Whether ONNX Runtime is usable, and why: by its files, and by importing it."""
    done = site.run("-c", CHECK)
    assert done.returncode == 0, done.stderr
    return [(usable, reason) for usable, reason in json.loads(done.stdout)]


def leave_a_namespace(site: SiteFolder) -> None:
    """What uninstalling onnxruntime leaves of onnxruntime-gpu, whose files it shared."""
    (site.path / "onnxruntime" / "capi").mkdir(parents=True)
    (site.path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"")


def test_an_empty_namespace_is_no_runtime(site: SiteFolder) -> None:
    leave_a_namespace(site)
    site.add_record("onnxruntime-gpu", "1.31.1", ("onnxruntime/__init__.py",))
    for usable, reason in found_in(site):
        assert not usable
        assert "onnxruntime is a folder without its module" in reason
        assert reason.endswith("Run: pip install --force-reinstall --no-deps onnxruntime-gpu")


def test_the_only_runtime_being_broken_is_told_everywhere(site: SiteFolder) -> None:
    leave_a_namespace(site)
    site.add_record("onnxruntime-gpu", "1.31.1", ("onnxruntime/__init__.py",))
    repair = "pip install --force-reinstall --no-deps onnxruntime-gpu"
    done = site.edge_mtl("doctor", "--json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["usable"] == []
    assert repair in done.stderr
    code = "from edge_mtl import Engine, EdgeMtlError\ntry: Engine()\nexcept EdgeMtlError as exc: print(exc.exit_code, exc)"
    said = site.run("-c", code).stdout
    assert said.startswith("5 ")
    assert repair in said


def test_two_records_of_a_namespace_are_both_removed(site: SiteFolder) -> None:
    leave_a_namespace(site)
    for name in ("onnxruntime", "onnxruntime-gpu"):
        site.add_record(name, "1.31.1", ("onnxruntime/__init__.py",))
    assert found_in(site)[0][1].endswith('Run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install "edge-mtl[cpu]"')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "does not import (libcudart.so.12"),
        ("raise RuntimeError('wrong driver')", "does not import (wrong driver)"),
        ("__version__ = '1.31.1'", "has no InferenceSession"),
    ],
)
def test_doctor_calls_usable_only_what_was_imported(site: SiteFolder, content: str, words: str) -> None:
    site.add_module("onnxruntime", content)
    site.add_record("onnxruntime", "1.31.1", ("onnxruntime/__init__.py",))
    (by_files, _), (by_import, reason) = found_in(site)
    assert by_files
    assert not by_import
    assert words in reason
    assert reason.endswith("Run: pip install --force-reinstall --no-deps onnxruntime")
    done = site.edge_mtl("doctor")
    assert done.returncode == 5
    assert "--force-reinstall" in done.stderr
