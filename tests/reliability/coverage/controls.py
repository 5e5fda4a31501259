"""Faults that the gate has to report: a branch without a test, a mutant that lives, an explanation of one that does not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.reliability.coverage.measuring import measure, read_report, unreached
from tests.reliability.coverage.modules import ROOT
from tests.reliability.coverage.mutants import Mutant, mutants_of
from tests.reliability.coverage.survivors import Explanation, judge
from tests.reliability.coverage.trials import try_mutants

__all__ = ["explain_a_dead_mutant", "leave_a_branch_untested", "let_a_mutant_live"]

_SETTINGS = "[tool.coverage.run]\nsource_pkgs = ['tiny']\nbranch = true\nparallel = true\npatch = ['subprocess']\n"
_TINY = "def side(x):\n    if x > 0:\n        print('right')\n    return x\n"
_TEST = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import tiny; tiny.side(1)'], check=True)\n"

_FILE = "edge_mtl/manifest.py"
_BLIND = "tests/unit/edge_mtl/test_bundle.py::test_an_altered_file_is_refused"
_SHARP = "tests/unit/edge_mtl/test_bundle.py::test_an_invalid_manifest_says_what_is_wrong"
_CHANGE = "- if not isinstance(revision, int) or revision < 1:\n+ if not isinstance(revision, int) and revision < 1:"


def leave_a_branch_untested(folder: Path) -> tuple[str, str]:
    """A tiny package of which a process that the test starts takes one branch of two. Returns the fault, and what was said."""
    (folder / "pyproject.toml").write_text(_SETTINGS)
    (folder / "tiny.py").write_text(_TINY)
    (folder / "test.py").write_text(_TEST)
    data, log = folder / "data" / "all", folder / "log"
    if measure(["test.py"], data, cwd=folder, log=log):
        raise RuntimeError(f"the tiny test failed: {log.read_text()}")
    return "a branch that no test takes", "; ".join(unreached(read_report(data, cwd=folder), ["tiny.py"]))


def let_a_mutant_live() -> tuple[str, str]:
    """A real mutant and a test that looks elsewhere."""
    return "a mutant tried with a test that looks elsewhere", "; ".join(judge(*_tried(_BLIND), []))


def explain_a_dead_mutant() -> tuple[str, str]:
    """The same mutant with the test that notices it, and a reason why it may survive."""
    one = _mutant()
    stale = Explanation("bundle", one.file, one.within, one.change, "nobody would ever count from zero")
    return "an explanation of a mutant that a test kills", "; ".join(judge(*_tried(_SHARP), [stale]))


def _tried(test: str) -> tuple[list[Mutant], list[Mutant]]:
    """The mutant among those that survived, or among those that were killed."""
    ((one, trial),) = try_mutants([(_mutant(), [test])], jobs=1, timeout_s=600.0)
    return ([one], []) if trial.outcome == "survived" else ([], [one])


@cache
def _mutant() -> Mutant:
    source = (ROOT / _FILE).read_text(encoding="utf-8")
    return next(one for one in mutants_of(_FILE, source) if one.change == _CHANGE)
