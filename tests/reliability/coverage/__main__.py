"""Coverage of the SDK by its tests, and mutants of three modules.

python -m tests.reliability.coverage [--workers 2] [--tests TESTS ...] [--add | --measured] [--out FILE]
python -m tests.reliability.coverage --mutate [--module bundle|store|frames] [--jobs 2] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_mtl.files import sha256_bytes, sha256_file
from tests.reliability.coverage.controls import explain_a_dead_mutant, leave_a_branch_untested, let_a_mutant_live
from tests.reliability.coverage.measuring import LEAST_LINES, gpu_share, line_share, measure, read_report, unreached
from tests.reliability.coverage.modules import GPU_ONLY, MODULES, ROOT, SDK_TESTS, Module
from tests.reliability.coverage.mutants import Mutant, mutants_of
from tests.reliability.coverage.results import Results
from tests.reliability.coverage.survivors import judge, read_explanations
from tests.reliability.coverage.trials import reached_by, try_mutants
from tests.reliability.record import GateRun

SCRATCH = ROOT / "out" / "coverage"
_MARKED = "not training and not slow"
"""Tests that are run: those of the SDK. What is marked as slow is also looked at by something quicker."""
_LEAST_TIMEOUT_S = 60.0


def main(words: Sequence[str] | None = None) -> int:
    """Run the gate; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.coverage", description=__doc__)
    parser.add_argument("--mutate", action="store_true", help="try mutants instead of measuring coverage")
    parser.add_argument("--module", choices=list(MODULES), action="append", help="mutants of this one only; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="mutants that are tried at a time")
    parser.add_argument("--workers", type=int, default=2, help="processes that share the tests")
    parser.add_argument("--tests", nargs="+", default=SDK_TESTS, help="run these files and folders only")
    parser.add_argument("--add", action="store_true", help="add to what earlier runs reached")
    parser.add_argument("--measured", action="store_true", help="run no tests: judge what earlier runs reached")
    parser.add_argument("--out", type=Path, help="where the record goes")
    given = parser.parse_args(words)
    run = GateRun("coverage")
    if given.mutate:
        for name in given.module or MODULES:
            _mutate(MODULES[name], run, given.jobs)
        run.control(*let_a_mutant_live())
        run.control(*explain_a_dead_mutant())
    else:
        _cover(run, [] if given.measured else given.tests, workers=given.workers, add=given.add or given.measured)
        with tempfile.TemporaryDirectory() as folder:
            run.control(*leave_a_branch_untested(Path(folder)))
    return run.finish(given.out)


def _cover(run: GateRun, tests: Sequence[str], *, workers: int, add: bool) -> None:
    """Run tests and judge what they reached, with what earlier runs reached if `add`. The SDK must be the same in all runs."""
    data, ran = SCRATCH / "data" / "all", SCRATCH / "data" / "runs.jsonl"
    earlier = [json.loads(line) for line in ran.read_text().splitlines()] if add and ran.exists() else []
    if any(one["source"] != _source() for one in earlier):
        raise SystemExit("edge_mtl/ was changed since the last run: what that reached does not count any more")
    if tests:
        log = SCRATCH / f"tests-{len(earlier)}-{os.getpid()}.log"
        words = ["-m", "pytest", "-p", "xdist", "-n", str(workers), "--dist", "loadfile", "-m", _MARKED, *tests]
        Console(stderr=True).print(f"tests run under coverage; what they print goes to {log}")
        entry = {"tests": list(tests), "source": _source()}
        if not add:
            ran.unlink(missing_ok=True)
        entry["code"] = measure(words, data, cwd=ROOT, log=log, add=add)
        with ran.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
        if entry["code"]:
            run.note(log.read_text(errors="replace")[-2000:])
    runs = [json.loads(line) for line in ran.read_text().splitlines()] if ran.exists() else []
    for one in runs:
        if one["code"]:
            run.violation(f"the tests ended with exit code {one['code']}: {' '.join(one['tests'])}")
    for missing in _not_run({each.rstrip("/") for one in runs for each in one["tests"]}):
        run.violation(f"{missing} was not run")
    report = read_report(data, cwd=ROOT)
    totals = report["totals"]
    run.count("lines of the SDK", totals["num_statements"])
    run.count("lines reached", totals["covered_lines"])
    run.count("branches of the SDK", totals["num_branches"])
    run.count("branches reached", totals["covered_branches"])
    share = line_share(report)
    if share < LEAST_LINES:
        run.violation(f"{share:.1%} of the SDK's lines ran; at least {LEAST_LINES:.0%} should")
    for module in MODULES.values():
        own = [report["files"][file]["summary"] for file in module.files if file in report["files"]]
        run.count(f"branches of {module.name}", sum(summary["num_branches"] for summary in own))
        for each in unreached(report, module.files):
            run.violation(each)
    only, reached = gpu_share(report, GPU_ONLY)
    branches = totals["covered_branches"] / totals["num_branches"]
    run.note(f"{share:.1%} of the SDK's lines ran, and {branches:.1%} of its branches.")
    run.note(
        f"Nothing is left out for want of a GPU: {only:.1%} of the lines are in files that do their work with one only, and "
        f"{reached:.0%} of those ran, against fakes of the vendors' libraries."
    )


def _not_run(ran: Set[str]) -> list[str]:
    """Tests of the SDK that are not in `ran`: whole folders, or of folders of which a part ran what else is in them."""
    missing = []
    for folder in SDK_TESTS:
        inside = [
            path for path in sorted((ROOT / folder).iterdir()) if path.name.startswith("test_") or any(path.glob("**/test_*"))
        ]
        parts = [path.relative_to(ROOT).as_posix() for path in inside]
        left = [part for part in parts if part not in ran]
        if folder not in ran:
            missing += left if len(left) < len(parts) else [folder]
    return missing


def _source() -> str:
    """Digest of the SDK's code."""
    files = sorted((ROOT / "edge_mtl").rglob("*.py"))
    return sha256_bytes(b"".join(sha256_file(path).encode() for path in files))


def _mutate(module: Module, run: GateRun, jobs: int) -> None:
    """Try the mutants of a module and judge who survived."""
    reached = reached_by(module.tests, module.mutated, left_out=module.left_out)
    if reached.code:
        raise SystemExit(f"the tests of {module.name} fail without a mutant:\n{reached.output[-4000:]}")
    results = Results(SCRATCH / f"mutants-{module.name}.jsonl", module.tests)
    mutants = [one for file in module.mutated for one in mutants_of(file, (ROOT / file).read_text(encoding="utf-8"))]
    done = {one: trial for one in mutants if (trial := results.get(one)) is not None}
    left = [one for one in mutants if one not in done]
    timeout_s = max(_LEAST_TIMEOUT_S, 10 * sum(reached.seconds.values()))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(f"mutants of {module.name}", total=len(mutants), completed=len(done))
        for one, trial in try_mutants(((one, reached.by(one)) for one in left), jobs=jobs, timeout_s=timeout_s):
            results.add(one, trial)
            done[one] = trial
            progress.advance(bar)
    outcomes = Counter(trial.outcome for trial in done.values())
    survived = [one for one in mutants if done[one].outcome == "survived"]
    explanations = [one for one in read_explanations() if one.file in module.mutated]
    run.count(f"mutants of {module.name}", len(mutants))
    run.count(f"killed of {module.name}", outcomes["killed"] + outcomes["timeout"])
    run.count(f"explained of {module.name}", sum(len(one.keys) for one in explanations))
    for each in judge(survived, _others(mutants, survived), explanations):
        run.violation(each)


def _others(mutants: Sequence[Mutant], survived: Sequence[Mutant]) -> list[Mutant]:
    alive = set(survived)
    return [one for one in mutants if one not in alive]


if __name__ == "__main__":
    sys.exit(main())
