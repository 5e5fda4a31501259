"""The matrix of versions: what it plans, what it asks uv for, and that its checks see a broken environment."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.distributions import ROOT
from tests.reliability.installed import TESTS, counts, failures
from tests.reliability.versions import checks
from tests.reliability.versions.environment import Environment
from tests.reliability.versions.plan import PYTHONS, Cell, interpreters, plan, requirements

METADATA = """Metadata-Version: 2.4
Name: edge-mtl
Version: 1
Requires-Dist: numpy>=1.26
Requires-Dist: typer>=0.15.4
Requires-Dist: tomli>=2; python_version < "3.11"
Requires-Dist: onnx>=1.17; extra == "demo"
Requires-Dist: markdown<12; python_version < "3.11" and extra == "docs"
Requires-Dist: torch>=2.7; extra == "train"
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "edge_mtl-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("edge_mtl-1.dist-info/METADATA", METADATA)
    return path


@pytest.fixture
def here(tmp_path: Path) -> Environment:
    """The environment of this test, as if it were one of the matrix."""
    return Environment(tmp_path / "cell", Path(sys.executable), {"PYTHONPATH": str(ROOT)})


def test_every_python_is_tried_with_both_resolutions_and_mixtures_on_one() -> None:
    cells = plan(PYTHONS, ["lowest", "highest"])
    assert {(cell.python, cell.resolution) for cell in cells} >= {
        (one, how) for one in PYTHONS for how in ("lowest", "highest")
    }
    assert len(set(cells)) == len(cells)
    mixed = [cell for cell in cells if cell.mixed]
    assert {(cell.resolution, cell.mixed) for cell in mixed} == {
        ("lowest", ("numpy<2", "protobuf")),
        ("lowest", ("numpy>=2.3",)),
        ("highest", ("numpy<2",)),
    }
    assert {cell.python for cell in mixed} == {"3.11"}
    assert [cell.mixed for cell in plan(["3.13"], ["highest"])] == [()]
    assert [cell for cell in cells if "view" not in cell.extras] == [cell for cell in cells if "numpy<2" in cell.mixed]


def test_the_pythons_are_those_that_setup_py_declares() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert [one for one in ("3.9", *PYTHONS, "3.14") if f'"Programming Language :: Python :: {one}"' in text] == list(PYTHONS)


def test_what_the_wheel_declares_is_what_is_resolved(wheel: Path) -> None:
    assert requirements(wheel, ("demo",)) == [
        "numpy>=1.26",
        "typer>=0.15.4",
        'tomli>=2; python_version < "3.11"',
        "onnx>=1.17",
    ]
    assert 'markdown<12; python_version < "3.11"' in requirements(wheel, ("docs",))
    assert requirements(wheel, ("train",), {"typer": "==0.12.0"})[1] == "typer==0.12.0"
    assert requirements(wheel, ("train",))[-1] == "torch>=2.7"


def test_interpreters_are_asked_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert interpreters(["3.12"]) == {}
    assert set(interpreters([own, "3.12"], [Path(sys.executable)])) == {own}


def test_uv_is_told_the_environment_and_never_takes_the_running_one(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[1:])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("tests.reliability.versions.environment.find_uv", lambda: "uv")
    monkeypatch.setattr(subprocess, "run", run)
    made, problem = Environment.made(
        tmp_path / "cell", Path("/opt/python"), Cell("3.11", "lowest", ("numpy>=2",)), wheel, ["a"]
    )
    assert problem == ""
    assert asked[0][:3] == ["venv", "--python", "/opt/python"]
    assert all(words[3] == str(made.python) and made.python.is_relative_to(tmp_path) for words in asked[1:])
    assert all(words[:1] + words[2:3] == ["pip", "--python"] for words in asked[1:])
    assert {"lowest-direct", "--no-build"} <= set(asked[1])
    assert (tmp_path / "cell" / "requirements.txt").read_text() == "a\nnumpy>=2\n"


def test_this_environment_explains_two_commands(here: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "COMMANDS", ("predict",))
    found = checks.every_command_explains_itself(here)
    assert (found.wrong, found.counts["commands"]) == ([], 2)


def test_a_package_that_breaks_the_commands_is_seen(here: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "COMMANDS", ("predict",))
    (here.empty / "typer.py").write_text("raise ImportError('of another time')\n")
    found = checks.every_command_explains_itself(here)
    assert len(found.wrong) == 1
    assert "of another time" in found.wrong[0]
    assert not found.counts


def test_a_command_that_fails_is_named(here: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "COMMANDS", ("predict", "no-such-command"))
    found = checks.every_command_explains_itself(here)
    assert found.counts["commands"] == 2
    assert len(found.wrong) == 1
    assert found.wrong[0].startswith("edge-mtl no-such-command --help: ")


def test_what_pytest_said_is_counted_and_failures_are_named() -> None:
    said = (
        "FAILED tests/a.py::test_b - AssertionError: 1\nERROR tests/c.py\n1 failed, 20 passed, 3 skipped, 2 errors in 4.20s\n"
    )
    assert counts(said) == {"failed": 1, "passed": 20, "skipped": 3, "error": 2}
    assert failures(said) == ["FAILED tests/a.py::test_b - AssertionError: 1", "ERROR tests/c.py"]
    assert not counts("no tests ran in 0.01s\n")


@pytest.mark.parametrize("path", TESTS)
def test_the_tests_that_are_run_elsewhere_are_there(path: str) -> None:
    assert (ROOT / path).exists()
