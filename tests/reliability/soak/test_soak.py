"""The quick part of the soaks: fewer frames and engines by the same rules, every leak that must be seen, and resuming."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.reliability.soak.__main__ import watch
from tests.reliability.soak.cycles import Cycles
from tests.reliability.soak.leaks import LEAKS
from tests.reliability.soak.resources import FRAME_RULES, MIB, Rules, Sample, judge
from tests.reliability.soak.state import State

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc/self/smaps_rollup of Linux")

SHORT_FRAMES = Rules(warm_up=500, growth_bytes=2 * MIB, per=100_000)
SHORT_CYCLES = Rules(warm_up=12, growth_bytes=5 * MIB, per=24, least_bytes=5 * MIB)


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where nothing else grows."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.reliability.soak", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.slow
def test_100_bytes_a_frame_are_seen_in_20_000_frames() -> None:
    done = soak("--leak", "bytes", "--frames", "20000")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert any("memory" in line for line in found), found


@pytest.mark.parametrize("kind", ["descriptors", "threads", "shared"])
def test_what_leaks_with_frames_is_named(kind: str) -> None:
    found = watch(kind, "frames", 2_000, SHORT_FRAMES)
    assert any(line.startswith(kind if kind != "shared" else "entries in /dev/shm") for line in found), found


def test_frames_in_all_ways_leave_nothing_behind() -> None:
    assert watch("none", "frames", 2_000, SHORT_FRAMES) == []


def test_engines_left_in_all_ways_leave_nothing_behind() -> None:
    assert watch("none", "cycles", 36, SHORT_CYCLES) == []


def test_what_leaks_with_engines_is_named() -> None:
    assert any("descriptors grow" in line for line in watch("descriptors", "cycles", 36, SHORT_CYCLES))


def test_cycles_report_what_went_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_mtl import Engine
    from tests.bundles import make_bundle

    cycles = Cycles(make_bundle(tmp_path / "tiny", height=16, width=16).path)
    monkeypatch.setattr(Engine, "_refuse_in_child", lambda self: None)
    for _ in cycles.run(3):
        pass
    assert len(cycles.problems) == 1
    assert cycles.problems[0].startswith("cycle 2, forked: the forked child")


def line(done: int, each: float) -> Sample:
    return Sample(done, *[100 * MIB + int(done * each)] * 3, 5, 4, 0)


@pytest.mark.parametrize(("each", "seen"), [(0.0, False), (15.0, False), (30.0, True), (100.0, True)])
def test_two_mib_in_100_000_frames_is_the_bound(each: float, seen: bool) -> None:
    found = judge([line(done, each) for done in range(0, 100_001, 1_000)], FRAME_RULES, "frames")
    assert bool(found) == seen, found


def test_a_warm_up_is_not_judged_and_one_alone_is_nothing_to_judge() -> None:
    grown = [line(done, 0) if done > 2_000 else line(done, 10_000) for done in range(0, 50_001, 500)]
    assert judge(grown, FRAME_RULES, "frames") == []
    assert "nothing can be judged" in judge(grown[:5], FRAME_RULES, "frames")[0]


def test_a_run_that_was_ended_goes_on_as_another_process(tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "record.json"
    for frames in ("120", "240"):
        done = soak("--frames", frames, "--state", str(state), "--out", str(out), "--no-controls")
        assert done.returncode == 1, "without its controls a run does not pass"
    record = json.loads(out.read_bytes())
    assert record["counts"]["processes"] == 2
    assert 240 <= record["counts"]["frames of the tiny bundle"] < 260
    assert [each["process"].split(",")[0] for each in record["details"]] == ["process 1", "process 2"]
    with pytest.raises(SystemExit, match="name another --state"):
        State(state, "default")


def test_every_leak_has_a_control_in_the_long_run() -> None:
    assert all(set(leaks) == {"bytes", "descriptors", "threads", "shared"} for leaks in LEAKS.values())
