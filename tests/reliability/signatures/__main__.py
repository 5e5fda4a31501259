"""The long run: every bit of a small signed bundle, random ones of it and of a bundle of the package.

python -m tests.reliability.signatures --out FILE [--alterations N] [--seed N]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from rich.progress import Progress

from edge_mtl.bundle import MANIFEST, SIGNATURE
from tests.bundles import ROOMS_B0
from tests.reliability.record import GateRun
from tests.reliability.signatures.gate import CONTROLS, KEY_FILE, against_minisign, in_memory, judge_all, make_subject


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alterations", type=int, default=100_000, help="random ones")
    parser.add_argument("--compared", type=int, default=2_000, help="signatures that minisign judges, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    run = GateRun("signatures")
    with tempfile.TemporaryDirectory(dir=in_memory()) as place, Progress() as progress:
        folders = {name: Path(place, name) for name in ("small", "rooms-b0")}
        for name, folder in folders.items():
            folder.mkdir()
            subject = make_subject(folder, None if name == "small" else ROOMS_B0)
            task = progress.add_task(name, total=None)
            judge_all(
                run,
                subject,
                exhaustive=list(subject.files) if name == "small" else (),
                # Verifying all of a real bundle takes a hundred times as long.
                more=asked.alterations if name == "small" else asked.alterations // 50,
                seed=asked.seed,
                scratch=folder,
                tick=lambda task=task: progress.advance(task),
            )
            if name == "small":
                program = shutil.which("minisign")
                if program is None:
                    run.note("the program minisign is not here: nothing was compared with it")
                else:
                    against_minisign(run, subject, program, number=asked.compared, seed=asked.seed)
        for fault, put_in in CONTROLS.items():
            folder = Path(place, f"control {len(run.controls)}")
            folder.mkdir()
            subject, faulty = make_subject(folder), GateRun("signatures")
            with put_in():
                texts = [f"bundle/{SIGNATURE}", KEY_FILE]
                judge_all(faulty, subject, exhaustive=texts, more=200, seed=asked.seed, scratch=folder, enough=5)
            seen = faulty.violations[0] if faulty.violations else ""
            run.control(fault, seen)
    run.note(f"the untrusted comments, which no signature of minisign's covers, may differ; {MANIFEST} and all else may not")
    return run.finish(asked.out)


if __name__ == "__main__":
    sys.exit(main())
