"""Runs tests under coverage.py and reads what they reached. The settings are in pyproject.toml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import coverage

__all__ = ["LEAST_LINES", "gpu_share", "line_share", "measure", "read_report", "unreached"]

LEAST_LINES = 0.9
"""Share of the SDK's lines that the tests have to reach."""

Report = Mapping[str, Any]
"""As of `coverage json`, files by their path."""


def measure(command: Sequence[str], data: Path, *, cwd: Path, log: Path, add: bool = False) -> int:
    """Run `python -m coverage run COMMAND` in `cwd`; its exit code.

    Args:
        data: where the processes put what they reached: files with this name and a suffix each.
        log: gets what the command prints.
        add: keep what earlier runs reached.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    for old in () if add else data.parent.glob(f"{data.name}*"):
        old.unlink()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTEST"))}
    environment |= {"COVERAGE_FILE": str(data), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        words = [sys.executable, "-m", "coverage", "run", *command]
        return subprocess.run(words, cwd=cwd, env=environment, stdout=stream, stderr=stream, check=False).returncode


def read_report(data: Path, *, cwd: Path) -> Report:
    """What all processes of `measure` reached together, by file relative to `cwd`; another checkout's files do not count."""
    before = Path.cwd()
    os.chdir(cwd)  # coverage.py names files relative to where it is
    try:
        found = coverage.Coverage(data_file=str(data.with_name("whole")), config_file=str(cwd / "pyproject.toml"))
        found.combine([str(path) for path in data.parent.glob(f"{data.name}.*")], keep=True)
        target = data.with_name("whole.json")
        found.json_report(outfile=str(target), include=[f"{cwd}/*"])
    finally:
        os.chdir(before)
    report: Report = json.loads(target.read_bytes())
    return report


def line_share(report: Report) -> float:
    """Share of the lines that ran, over all files, between 0 and 1."""
    return float(report["totals"]["covered_lines"] / report["totals"]["num_statements"])


def unreached(report: Report, files: Iterable[str]) -> list[str]:
    """Lines and branches of `files` that no test reached, and files that are not in the report, a line of text each."""
    found = []
    for file in files:
        if file not in report["files"]:
            found.append(f"{file}: no test imports it")
            continue
        reached = report["files"][file]
        found += [f"{file}:{line}: never ran" for line in reached["missing_lines"]]
        for start, end in reached["missing_branches"]:
            where = f"line {end}" if end > 0 else "the end of its block"
            found.append(f"{file}:{start}: the branch to {where} was never taken")
    return found


def gpu_share(report: Report, only: Sequence[str]) -> tuple[float, float]:
    """Of all lines the share in files that `only` begins the names of, and of those lines the share that ran."""
    own = [each["summary"] for file, each in report["files"].items() if file.startswith(tuple(only))]
    lines, covered = (sum(summary[name] for summary in own) for name in ("num_statements", "covered_lines"))
    return lines / report["totals"]["num_statements"], covered / lines if lines else 0.0
