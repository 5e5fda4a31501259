"""Environments that the Makefile makes are whole by themselves: its recipes run with a Python that only takes notes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = """#!/bin/sh
echo "$PYTHONPATH|$PYTHONHOME|$PYTEST_DISABLE_PLUGIN_AUTOLOAD|$AMENT_PREFIX_PATH|$*" >> {log}
case "$*" in
    *"-m venv"*) for folder; do :; done; mkdir -p $folder/bin; cp $0 $folder/bin/python; cp $0 $folder/bin/edge-mtl ;;
    *check_environment*) exit {status} ;;
esac
"""
SOURCED = {
    "PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages",
    "PYTHONHOME": "/opt/python",
    "AMENT_PREFIX_PATH": "/opt/ros",
}
TARGETS = {"test-sdk": "VENV", "demo": "DEMO_VENV", "soak-node": "ROS_VENV", "test-gpu": "GPU_VENV"}

Make = Callable[[str, int], tuple[int, list[list[str]], list[str]]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Runs a target where ROS is sourced; its exit code, what Python was run with, and the stamps of the environment."""
    if shutil.which("make") is None:
        pytest.skip("needs make")

    def run(target: str, status: int) -> tuple[int, list[list[str]], list[str]]:
        log, python, venv = tmp_path / "log", tmp_path / "python", tmp_path / "venv"
        python.write_text(PYTHON.format(log=log, status=status))
        python.chmod(0o755)
        command = ["make", "--silent", f"PYTHON={python}", f"{TARGETS[target]}={venv}", target]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE", "MFLAGS"))}
        done = subprocess.run(command, cwd=ROOT, env=environment | SOURCED, capture_output=True, text=True, check=False)
        lines = [line.split("|") for line in log.read_text().splitlines()]
        return done.returncode, lines, [path.name for path in venv.glob(".ready*")]

    return run


@pytest.mark.parametrize("target", TARGETS)
def test_a_sourced_ros_changes_nothing_in_our_environments(make: Make, target: str) -> None:
    code, lines, stamps = make(target, 0)
    assert (code, len(stamps)) == (0, 1)
    assert {tuple(line[:3]) for line in lines} == {("", "", "1")}
    if target == "soak-node":
        assert {line[3] for line in lines if "venv" not in line[4]} == {""}
    asked = [line[4] for line in lines]
    (checked,) = [index for index, words in enumerate(asked) if "check_environment.py" in words]
    assert "pip install" in asked[checked - 1]
    extras = asked[checked - 1].partition("[")[2].rstrip("]").split(",")
    assert asked[checked].split()[1:] == extras


@pytest.mark.parametrize("target", TARGETS)
def test_an_environment_that_lacks_something_is_not_called_ready(make: Make, target: str) -> None:
    code, lines, stamps = make(target, 1)
    assert code != 0
    assert stamps == []
    assert "check_environment.py" in lines[-1][4]


@pytest.fixture
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_environment", ROOT / "tests" / "packaging" / "check_environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(folder: Path, name: str, version: str = "1.0", *, files: tuple[str, ...] = ("__init__.py",)) -> None:
    """What pip leaves of a distribution that installed NAME/__init__.py; of these `files` are there."""
    (folder / name).mkdir(parents=True)
    for file in files:
        (folder / name / file).write_text("")
    record = folder / f"{name}-{version}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (record / "RECORD").write_text(f"{name}/__init__.py,,\n{name}-{version}.dist-info/METADATA,,\n")


def test_what_is_missing_foreign_old_or_left_over_is_told(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, foreign = tmp_path / "own", tmp_path / "ros"
    package(own, "zz_whole")
    package(own, "zz_old")
    package(own, "zz_left", files=())
    package(foreign, "zz_foreign")
    monkeypatch.syspath_prepend(str(own))
    monkeypatch.syspath_prepend(str(foreign))
    names = ("zz_whole", "zz_old>=2", "zz_left", "zz_foreign", "zz_missing")
    found = check.problems([check.Requirement(name) for name in names], [own])
    assert [text.split()[0] for text in found] == ["zz_old>=2", "zz_left", "zz_foreign", "zz_missing"]
    assert "1.0 is installed" in found[0]
    assert "its module zz_left is not whole" in found[1]
    assert "unset PYTHONPATH" in found[2]
    assert "not installed" in found[3]


def test_requirements_are_those_of_the_extras_and_of_this_python(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=1", 'torch>=2; extra == "train"', 'old; python_version < "3" and extra == "train"', 'x; extra == "y"']
    monkeypatch.setattr(check.importlib.metadata, "requires", lambda name: lines)
    assert [one.name for one in check.declared(["train"])] == ["numpy", "torch"]
