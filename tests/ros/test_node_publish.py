"""The benchmark of `publish` on real messages: everything arrives where somebody listens, and the result can be committed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "node_publish.py"


def test_a_small_run_measures_every_message_for_every_listener(ros_environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "publish.json"
    command = [sys.executable, str(SCRIPT), "--sizes", "24x32", "--rounds", "6", "--note", "machine busy", "--out", str(out)]
    ran = subprocess.run(command, env=ros_environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    content = json.loads(out.read_text())
    assert (content["note"], content["lost"], content["rounds"]) == ("machine busy", 0, 6)
    assert content["device"]["cores"] >= 1
    listeners = ("nobody", "this process", "another process")
    expected = [("labels", "mono8", 1), ("depth", "32FC1", 4), ("depth in mm", "16UC1", 2), ("cloud", "20 B a point", 20)]
    rows = [(row["message"], row["encoding"], row["bytes"], row["listener"]) for row in content["rows"]]
    assert rows == [(name, encoding, 24 * 32 * each, who) for name, encoding, each in expected for who in listeners]
    for row in content["rows"]:
        assert row["count"] == 6
        assert 0 < row["processor_sure"][0] <= row["processor_ms"] <= row["processor_sure"][1]
        assert 0 < row["clock_ms"] <= row["clock_p90_ms"]
    assert len(ran.stdout.splitlines()) == 1 + 2 + len(expected)
