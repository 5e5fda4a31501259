"""Whether tests notice a mutant: each is tried in a fork of this process, so that packages are imported once for all.

Nothing on the disk is changed: the fork imports the file's changed source, and all of the SDK and its tests anew. Cosmic Ray's
own runner rewrites the file in place and starts pytest for each mutant, which takes several seconds each, and would show the
mutant to whatever else runs in this folder.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cosmic_ray.exceptions import CosmicRayTestingException

from tests.reliability.coverage.modules import ROOT
from tests.reliability.coverage.mutants import Mutant

__all__ = ["Reached", "Trial", "reached_by", "try_mutants"]

_FRESH = ("edge_mtl", "tests", "mtl")
"""Packages that a fork imports anew; all others are those of this process."""

_SHARED = ("numpy", "cv2", "onnx", "onnx.reference", "onnxruntime", "hypothesis", "hypothesis.strategies", "rich", "typer")
_MEMORY = 16 << 30

_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a mutant.

    Attributes:
        outcome: "killed", "survived" or "timeout", which counts as killed.
        killer: the first test that failed; "" where none did, or what failed was no test.
        tests: how many were run against it.
    """

    outcome: str
    killer: str
    tests: int


@dataclass(slots=True)
class Reached:
    """What tests reach of some files.

    Attributes:
        seconds: time of every test by its name.
        tests: by file and line the names of tests that run that line; a line that runs on import has the name "".
        code: exit code of pytest; 0 where all passed.
        output: of pytest.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    code: int = 0
    output: str = ""

    def by(self, mutant: Mutant) -> list[str]:
        """Tests that run the statement of a mutant, quick ones first; all of them where it runs on import."""
        lines = _statement(mutant)
        names = {name for line in lines for name in self.tests[mutant.file].get(line, [])}
        wanted = self.seconds if "" in names else names
        return sorted(wanted, key=lambda name: self.seconds[name])


def reached_by(tests: Sequence[str], files: Iterable[str], *, left_out: Sequence[str] = ()) -> Reached:
    """Run files of tests without a change, in a fork, and note which test reaches which line of `files`.

    Args:
        left_out: parts of the names of tests that are not run.
    """
    _import_shared()
    words = [*tests, *(["-k", f"not ({' or '.join(left_out)})"] if left_out else [])]
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_in_fork, args=(sender, lambda: _note_reached(words, list(files))))
    process.start()
    sender.close()
    try:
        found = Reached(*receiver.recv())
    except EOFError as exc:
        raise RuntimeError("the process that runs the tests without a change died") from exc
    finally:
        process.join()
    return found


def try_mutants(
    mutants: Iterable[tuple[Mutant, Sequence[str]]], *, jobs: int, timeout_s: float
) -> Iterator[tuple[Mutant, Trial]]:
    """Try mutants, each with the tests that may notice it, as many at a time as `jobs`; yields them as they are done.

    One that no test reaches has survived.
    """
    _import_shared()
    waiting = iter(mutants)
    running: dict[Any, tuple[Mutant, int, Any, float]] = {}
    while True:
        while len(running) < jobs and (entry := next(waiting, None)) is not None:
            mutant, tests = entry
            if not tests:  # pytest would run all that there are
                yield mutant, Trial("survived", "", 0)
                continue
            receiver, sender = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=_in_fork, args=(sender, lambda m=mutant, t=tests: _notice(m, list(t))))
            process.start()
            sender.close()
            running[process] = (mutant, len(tests), receiver, time.monotonic() + timeout_s)
        if not running:
            return
        multiprocessing.connection.wait([process.sentinel for process in running], timeout=0.2)
        for process, (mutant, count, receiver, deadline) in list(running.items()):
            late = time.monotonic() > deadline
            if process.is_alive() and not late:
                continue
            said = receiver.recv() if receiver.poll() else ("killed", "")  # it died of it
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what its tests started, too
            process.join()
            del running[process]
            outcome, killer = ("timeout", "") if late else said
            yield mutant, Trial(outcome, killer, count)


def _import_shared() -> None:
    for name in _SHARED:
        importlib.import_module(name)


def _in_fork(sender: Any, work: Callable[[], Any]) -> None:
    """Call `work` in a session, with a scratch folder and limits of its own, and send what it gives."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    scratch = tempfile.mkdtemp(prefix="edge-mtl-trial-")
    tempfile.tempdir = scratch
    os.environ |= {"TMPDIR": scratch, "HOME": scratch, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.chdir(ROOT)
    for name in [name for name in sys.modules if name.partition(".")[0] in (*_FRESH, "conftest")]:
        del sys.modules[name]
    output = os.open(Path(scratch) / "output", os.O_RDWR | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        sender.send(work())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        sender.close()


def _notice(mutant: Mutant, tests: list[str]) -> tuple[str, str]:
    """Outcome and first failing test of a mutant; called in a fork."""
    builtins.CosmicRayTestingException = CosmicRayTestingException  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Changed(mutant.file, mutant.source))
    watcher = _Watcher()
    code = _pytest(["-x", *tests], watcher)
    return ("killed", watcher.failed) if code else ("survived", "")


def _note_reached(words: list[str], files: list[str]) -> tuple[dict[str, float], dict[str, dict[int, list[str]]], int, str]:
    """The fields of `Reached`; called in a fork, whose classes are no longer those of this process."""
    import coverage

    measured = coverage.Coverage(data_file=None, config_file=False, include=[str(ROOT / file) for file in files])
    watcher = _Watcher(measured.switch_context)
    measured.start()
    code = _pytest(words, watcher)
    measured.stop()
    data, lines = measured.get_data(), {}
    for file in files:
        lines[file] = {line: list(names) for line, names in data.contexts_by_lineno(str(ROOT / file)).items()}
    sys.stdout.flush()
    return watcher.seconds, lines, code, (Path(tempfile.gettempdir()) / "output").read_text(errors="replace")


def _pytest(words: list[str], watcher: _Watcher) -> int:
    scratch = tempfile.gettempdir()
    return int(
        pytest.main(
            ["-q", "--tb=line", "--assert=plain", f"--basetemp={scratch}/tests", f"--rootdir={ROOT}", *words], plugins=[watcher]
        )
    )


class _Watcher:
    """A plugin of pytest: says when a test begins, and remembers times and the first that failed."""

    def __init__(self, began: Callable[[str], None] = lambda name: None) -> None:
        self._began = began
        self.seconds: dict[str, float] = {}
        self.failed = ""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """The same examples in every trial, none of them from a former run, and no search for a smaller one."""
        import hypothesis

        parent = hypothesis.settings.get_profile("any speed")
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", parent=parent, derandomize=True, database=None, phases=phases)
        hypothesis.settings.load_profile("mutants")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._began(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed and not self.failed:
            self.failed = report.nodeid


class _Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds one module of the SDK, and gives it another source than its file has."""

    def __init__(self, file: str, source: str) -> None:
        super().__init__(file.removesuffix(".py").replace("/", "."), str(ROOT / file))
        self._source = source

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> Any:
        return compile(self._source, self.path, "exec", dont_inherit=True)


def _statement(mutant: Mutant) -> range:
    """Lines of the innermost statement of the mutant's line; of one with a body only those before it."""
    found = range(mutant.line, mutant.line + 1)
    size = None
    for node in ast.walk(ast.parse((ROOT / mutant.file).read_text(encoding="utf-8"))):
        if not isinstance(node, (ast.stmt, ast.ExceptHandler)):
            continue
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        body = getattr(node, "body", None)
        last = max(body[0].lineno - 1, node.lineno) if body else node.end_lineno or first
        if first <= mutant.line <= last and (size is None or last - first < size):
            found, size = range(first, last + 1), last - first
    return found
