"""The node's long run: lifecycle cycles under a camera, minutes at 30 Hz, and a node that leaks, which must be seen.

python -m tests.reliability.soak.node --cycles 1000 --minutes 10 --out out/soak-node.json

Needs rclpy, as `make soak-node` has it. The work is that of `tests/ros/test_lifecycle.py` and `benchmarks/soak_node.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.reliability.record import GateRun

ROOT = Path(__file__).resolve().parents[3]
VERDICTS = {
    "exact": "frames are unaccounted for",
    "flat": "memory, descriptors or threads grew",
    "alive": "answers did not come all the time",
}


def main() -> int:
    """Run both and the control, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.soak.node", description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000, help="of the lifecycle")
    parser.add_argument("--minutes", type=float, default=10.0, help="under a camera of 30 Hz")
    parser.add_argument("--out", type=Path, help="file for the record")
    asked = parser.parse_args()
    run = GateRun("soak-node")
    _cycles(run, asked.cycles)
    result = _film(asked.minutes)
    run.count("frames sent", result["sent"])
    run.count("frames published", result["published"])
    for problem in _problems(result):
        run.violation(f"{asked.minutes:g} minutes at 30 Hz: {problem}: {json.dumps(result)}")
    run.details.append(result)
    leaking = _film(1.0, "--leak")
    grown = f"{leaking['start']['resident_mib']} MiB at first, {leaking['end']['resident_mib']} MiB in the end"
    run.control("a node that keeps 1 MB a frame, for a minute", "" if leaking["flat"] else f"{VERDICTS['flat']}: {grown}")
    return run.finish(asked.out)


def _cycles(run: GateRun, cycles: int) -> None:
    """Lifecycle cycles, as the test has them: nothing published while inactive, and flat."""
    command = [sys.executable, "-m", "pytest", "tests/ros/test_lifecycle.py", "-k", "cycles"]
    environment = {**os.environ, "EDGE_MTL_LIFECYCLE_CYCLES": str(cycles), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout[-2000:], flush=True)
    if done.returncode == 0 and "skipped" not in done.stdout:  # without rclpy all are skipped, and nothing was run
        run.count("lifecycle cycles", cycles)
    else:
        run.violation(f"{cycles} lifecycle cycles: {done.stdout[-500:]}")


def _film(minutes: float, *more: str) -> dict[str, Any]:
    """What `soak_node.py` found."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, "benchmarks/soak_node.py", "--minutes", str(minutes), "--out", str(out), *more]
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
        if not out.is_file():
            raise SystemExit(f"{' '.join(command[1:])} gave no result:\n{done.stderr[-2000:]}")
        return dict(json.loads(out.read_bytes())["result"])


def _problems(result: dict[str, Any]) -> list[str]:
    """What is not as promised."""
    found = [text for name, text in VERDICTS.items() if not result[name]]
    return found + ([f"the node ended with {result['exit_code']}"] if result["exit_code"] else [])


if __name__ == "__main__":
    sys.exit(main())
