"""The long run: every defence of SECURITY.md taken away in turn.

python -m tests.reliability.threats --out FILE [--row WORDS]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from tests.reliability.threats.gate import gaps, judge, run_tests
from tests.reliability.threats.model import threats
from tests.reliability.threats.sabotage import SABOTAGES


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", default="", help="only rows that hold these words")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    from tests.reliability.record import GateRun  # imports the package, which the processes of the tests must not have done

    run = GateRun("threats")
    every = threats()
    for gap in gaps(every, SABOTAGES):
        run.violation(gap)
    rows = [row for row in every if asked.row in row.name]
    tests = sorted({test for row in rows for test in row.tests})
    code, said = run_tests(tests)
    if code != 0:
        run.violation(f"the tests of the threats do not pass as things are: {said}")
    run.count("threats", len(rows))
    run.count("tests", len(tests))
    pairs = [(each, name) for each in rows for name in SABOTAGES.get(each.name, ())]
    for row, name in track(pairs, "defences taken away"):
        violation, failed = judge(row, f"{row.name}: {name}")
        run.count("defences taken away")
        run.count("seen by a test", int(bool(failed)))
        if violation:
            run.violation(violation)
    run.control("no defence is taken away, which no test can see", judge(rows[0], "nothing")[0])
    run.control("a row whose test does not exist", judge(replace(rows[0], tests=(f"{tests[0]}_gone",)), "nothing")[0])
    run.control("a row without tests", "; ".join(gaps([replace(rows[0], tests=())], {rows[0].name: ("a",)})))
    return run.finish(asked.out)


if __name__ == "__main__":
    sys.exit(main())
