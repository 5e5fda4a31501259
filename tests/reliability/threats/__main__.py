"""The long run: every defence of SECURITY.md taken away in turn.

python -m tests.reliability.threats --out FILE [--row WORDS] [--minutes N]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from tests.reliability.threats.gate import gaps, judge, run_tests
from tests.reliability.threats.model import threats
from tests.reliability.threats.sabotage import SABOTAGES


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", default=[], action="append", help="only rows that hold these words; may be repeated")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="no row is begun after these; the record names the rest"
    )
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    from tests.reliability.record import GateRun  # imports the package, which the processes of the tests must not have done

    run, until_s = GateRun("threats"), time.monotonic() + 60 * asked.minutes
    every = threats()
    for gap in gaps(every, SABOTAGES):
        run.violation(gap)
    rows = [row for row in every if not asked.row or any(words in row.name for words in asked.row)]
    first = replace(rows[0], tests=rows[0].tests[:1])
    run.control("no defence is taken away, which no test can see", judge(first, "nothing")[0])
    run.control("a row whose test does not exist", judge(replace(first, tests=(f"{first.tests[0]}_gone",)), "nothing")[0])
    run.control("a row without tests", "; ".join(gaps([replace(first, tests=())], {first.name: ("a",)})))
    left = []
    for row in track(rows, "threats"):
        if time.monotonic() > until_s:
            left.append(row.name)
            continue
        code, said = run_tests(row.tests)
        if code != 0:
            run.violation(f"{row.name}: its tests do not pass as things are: {said}")
            continue
        run.count("threats")
        run.count("tests", len(row.tests))
        for name in SABOTAGES.get(row.name, ()):
            violation, failed = judge(row, f"{row.name}: {name}")
            run.count("defences taken away")
            run.count("seen by a test", int(bool(failed)))
            if violation:
                run.violation(violation)
            print(f"{row.name}: {name}: {failed or violation}", flush=True)
    if left:
        run.note(f"not tried in the {asked.minutes:g} minutes of this run: {'; '.join(left)}")
    return run.finish(asked.out)


if __name__ == "__main__":
    sys.exit(main())
