"""Runs the tests of a row with a defence taken away, and judges: one of them must fail.

Each run is a process of its own, forked from one that has imported what others wrote, and nothing of this project.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tests.reliability.threats.model import ROOT, Threat
from tests.reliability.threats.sabotage import take_away

__all__ = ["gaps", "judge", "run_tests"]

_FAILED, _PASSED = 1, 0
_IMPORTED_ONCE = ("pytest", "_pytest.assertion.rewrite", "hypothesis", "numpy", "cv2", "onnx.reference", "onnxruntime", "typer")


def run_tests(tests: Iterable[str], sabotage: str = "nothing", *, timeout_s: float = 1800.0) -> tuple[int, str]:
    """Exit code of pytest and its last line, the first failure ending it; with `sabotage` as `take_away` names it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED_ONCE))
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said")
        process = context.Process(target=_run, args=(tuple(tests), sabotage, str(said)))
        process.start()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
        every = said.read_text(errors="replace").splitlines() if said.exists() else []
    lines = [line for line in every if line.startswith(("FAILED", "ERROR"))] or every or [""]
    return process.exitcode if process.exitcode is not None else -1, lines[-1].replace(f"{ROOT}/", "")[:200]


def _run(tests: Sequence[str], sabotage: str, said: str) -> None:
    """The process: the defence goes before anything of the project is imported."""
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    out = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    early = [name for name in sys.modules if name.startswith("edge_mtl")]
    if early:
        print(f"imported before the defence was taken away: {early}")
        sys.exit(70)
    take_away(sabotage)
    import pytest

    sys.exit(int(pytest.main(["-q", "-x", "--tb=no", *tests])))


def judge(threat: Threat, sabotage: str) -> tuple[str, str]:
    """(violation, empty if a test fails; the test that failed)."""
    code, said = run_tests(threat.tests, sabotage)
    if code == _FAILED:
        return "", said.removeprefix("FAILED ").partition(" - ")[0]  # the error follows where the terminal is wide enough
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
