"""Runs the tests of a row with a defence taken away, and judges: one of them must fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping

from tests.reliability.threats.model import ROOT, Threat
from tests.reliability.threats.sabotage import VARIABLE

__all__ = ["gaps", "judge", "run_tests"]

_FAILED, _PASSED = 1, 0


def run_tests(tests: Iterable[str], sabotage: str = "", *, timeout_s: float = 1800.0) -> tuple[int, str]:
    """Exit code of pytest and its last line, the first failure ending it; with `sabotage` as `take_away` names it."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "tests.reliability.threats.sabotage", *tests]
    environment = {**os.environ, VARIABLE: sabotage, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")] or done.stdout.splitlines()
    return done.returncode, (lines or done.stderr.splitlines() or [""])[-1][:200]


def judge(threat: Threat, sabotage: str) -> tuple[str, str]:
    """(violation, empty if a test fails; the test that failed)."""
    code, said = run_tests(threat.tests, sabotage)
    if code == _FAILED:
        return "", said.removeprefix("FAILED ")
    if code == _PASSED:
        return f"{threat.name}: its tests pass with the defence taken away ({sabotage.rpartition(': ')[2]})", ""
    return f"{threat.name}: its tests cannot be run with the defence taken away (exit code {code}: {said})", ""


def gaps(rows: Iterable[Threat], sabotages: Mapping[str, Collection[str]]) -> list[str]:
    """Rows without tests or without a way to take their defence away, and the other way round."""
    found = list(rows)
    missing = [f"{row.name}: no tests are named" for row in found if not row.tests]
    missing += [f"{row.name}: nothing takes its defence away" for row in found if not sabotages.get(row.name)]
    known = {row.name for row in found}
    return missing + [f"{name}: no such row in SECURITY.md" for name in sabotages if name not in known]
