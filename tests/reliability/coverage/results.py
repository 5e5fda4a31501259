"""What mutants came to in earlier runs, so that a run that was stopped goes on: one JSON line each, only ever added to."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.reliability.coverage.modules import ROOT
from tests.reliability.coverage.mutants import Mutant
from tests.reliability.coverage.trials import Trial

__all__ = ["Results"]


class Results:
    """Trials of one module, in `path`.

    A kill counts while the changed file is the same and the test that failed is. A survivor counts while all tests are.

    Args:
        tests: files of the tests that mutants are tried with.
    """

    def __init__(self, path: Path, tests: Sequence[str]) -> None:
        self._path = path
        self._tests = _digest("".join((ROOT / file).read_text(encoding="utf-8") for file in tests))
        self._functions = {file: _functions(ROOT / file) for file in tests}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._known = {entry["mutant"]: entry for entry in map(json.loads, lines)}

    def get(self, mutant: Mutant) -> Trial | None:
        """What is known of this mutant, if that still counts."""
        entry = self._known.get(_digest(mutant.source))
        if entry is None:
            return None
        trial = Trial(**entry["trial"])
        same = entry["test"] == self._test(trial) if trial.killer else entry["test"] == self._tests
        return trial if same else None

    def add(self, mutant: Mutant, trial: Trial) -> None:
        """Write it down."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entry = {
            "mutant": _digest(mutant.source),
            "what": str(mutant),
            "test": self._test(trial) if trial.killer else self._tests,
            "trial": asdict(trial),
        }
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    def _test(self, trial: Trial) -> str:
        """Digest of the function that is the test which failed."""
        file, _, name = trial.killer.partition("::")
        return self._functions.get(file, {}).get(name.partition("[")[0], "")


def _functions(path: Path) -> dict[str, str]:
    """Digest of the source of every function of a file, its decorators too."""
    source = path.read_text(encoding="utf-8")
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found[node.name] = _digest("\n".join(lines[first - 1 : node.end_lineno]))
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
