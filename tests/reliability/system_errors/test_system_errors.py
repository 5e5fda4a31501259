"""The quick part of the gate `errors`: one error at each kind of write step, a full disk, and the positive controls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import make_bundle
from tests.reliability.system_errors.disks import mounting_works
from tests.reliability.system_errors.forked import attach_works
from tests.reliability.system_errors.steps import CALLS, Step, chosen, errors_of, read_steps
from tests.reliability.trials import DOCUMENTED, ROOT, Command, Found, Normal, faults

LOG = """
7 openat(AT_FDCWD</tmp>, "/t/trial/in.png", O_RDONLY) = 3</t/trial/in.png>
7 openat(AT_FDCWD</tmp>, "/t/trial/.tmp-1", O_RDWR|O_CREAT|O_EXCL, 0600) = 3</t/trial/.tmp-1>
7 write(1</tmp/out>, "Saved /t/trial/out.png\\n", 23) = 23
7 write(3</t/trial/.tmp-1>, "\\211PNG"..., 4096) = 4096
8 write(3</t/trial/.tmp-1>, "more"..., 96) = 96
7 fsync(3</t/trial/.tmp-1>) = 0
7 rename("/t/trial/.tmp-1", "/t/trial/out.png") = 0
7 +++ exited with 0 +++
"""


def run_gate(name: str, *words: str, out: Path) -> dict[str, Any]:
    """The record of a gate, run in a process that has nothing loaded; forks of one with engines would be none of a user's."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'train'}"}
    command = [sys.executable, "-m", f"tests.reliability.{name}", *words, "--out", str(out)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads(out.read_bytes())
    return record


def test_steps_are_calls_that_write_into_the_folder(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(LOG)
    assert read_steps(log, Path("/t/trial")) == [
        Step("openat", "/t/trial/.tmp-1", 1),
        Step("write", "/t/trial/.tmp-1", 1),
        Step("write", "/t/trial/.tmp-1", 2),
        Step("fsync", "/t/trial/.tmp-1", 1),
        Step("rename", "/t/trial/.tmp-1", 1),
    ]


def test_of_many_steps_the_first_the_last_and_some_between_are_chosen() -> None:
    steps = [Step("write", "/a", number) for number in range(1, 101)] + [Step("rename", "/a", 1)]
    assert [step.number for step in chosen(steps, 3)] == [1, 51, 100, 1]
    assert chosen(steps, 1000) == steps
    assert {errors_of(steps[0], every_error=False, turn=turn)[0] for turn in range(9)} == set(CALLS["write"])


@pytest.mark.parametrize(
    ("code", "err", "said"),
    [
        (74, "error: No space left. Free some space.\n", []),
        (74, "error: No space left.\n", ["nothing said of what to do: error: No space left."]),
        (1, "Traceback (most recent call last):\nOSError: x\n", ["a traceback: OSError: x"]),
        (70, "error: internal error. Set X=1.\n", ["exit code 70: error: internal error. Set X=1."]),
        (-11, "", ["ended by signal 11: nothing said"]),
        (None, "", ["it hung"]),
        (74, "", ["0 lines of error: nothing said"]),
        (0, "", ["exit code 0 without out/a.json"]),
    ],
)
def test_an_ending_is_judged(code: int | None, err: str, said: list[str], tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", calibration=1, evaluation=1, golden=1)
    normal = Normal({}, {"out/a.json": "1"}, frozenset({"out/a.json"}), 1.0)
    assert faults(Command("x", ()), normal, Found(code, "", err, {}), tmp_path) == said
    assert 70 not in DOCUMENTED


def test_what_is_left_is_judged(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", calibration=1, evaluation=1, golden=1)
    (tmp_path / "a.json").write_text('{"half')
    (tmp_path / "b.json").write_text('{"whole": 1}')
    normal = Normal(
        {"a.json": "1", "b.json": "1", "c": "1"}, {"a.json": "2", "b.json": "2", "c": "1", "d": "4"}, frozenset({"d"}), 1.0
    )
    content = {"a.json": "3", "b.json": "3", "d": "5", ".tmp-edge-mtl-1": "6"}
    found = Found(74, "", "error: No space left. Free some.", content)
    assert faults(Command("x", ()), normal, found, tmp_path) == [
        "a.json is neither the old content nor the new",
        "d is neither the old content nor the new",
        "left .tmp-edge-mtl-1",
        "c is lost",
    ]
    (tmp_path / "bundle" / "manifest.json").write_text("{")
    assert "manifest.json" in faults(Command("x", ()), normal, Found(0, "", "", {}), tmp_path)[-1]


@pytest.mark.skipif(bool(attach_works()), reason=attach_works() or "strace works")
def test_an_error_at_each_kind_of_step_is_survived_and_the_controls_are_seen(tmp_path: Path) -> None:
    record = run_gate("system_errors", "scale", "--steps", "1", "--skip", "disks", out=tmp_path / "record.json")
    assert record["violations"] == []
    assert record["counts"]["errors injected"] >= 6
    assert "steps not met again" not in record["counts"]
    half, escaped = (control["seen"] for control in record["controls"])
    assert "neither the old content nor the new" in half
    assert "a traceback: OSError: [Errno 5]" in escaped


@pytest.mark.skipif(bool(mounting_works()), reason=mounting_works() or "mounting works")
def test_a_disk_that_is_really_full_is_survived(tmp_path: Path) -> None:
    words = ("scale", "--skip", "steps", "--fill", "1,50")
    record = run_gate("system_errors", *words, out=tmp_path / "record.json")
    assert record["violations"] == []
    assert record["counts"]["runs on real disks"] >= 4
