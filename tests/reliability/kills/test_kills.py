"""The quick part of the gate `kills`: a handful of kills of a few commands, one step of each kind, and the controls."""

from __future__ import annotations

import random
import signal
import sys
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.reliability.kills.__main__ import main
from tests.reliability.kills.child import Child, forking
from tests.reliability.kills.commands import COMMANDS, PRELOADED, unavailable
from tests.reliability.kills.controls import CONTROLS, Control, seen_of
from tests.reliability.kills.oracle import leftovers, read_tree, torn
from tests.reliability.kills.steps import Step, missing, read_steps, struck, tracing
from tests.reliability.kills.trials import Trials

KILLS = 5
WITHOUT_STEPS = missing()


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    return forking(*PRELOADED)


@pytest.mark.parametrize("name", ["build", "export-files"])
def test_killed_commands_leave_the_old_artefact_or_the_new_one(context: ForkServerContext, tmp_path: Path, name: str) -> None:
    trials = Trials(context, tmp_path, COMMANDS[name])
    draws = random.Random(name)
    found = [trials.at_random(lambda seconds: draws.uniform(0.0, seconds), number) for number in range(KILLS)]
    assert any(outcome.killed for outcome in found)
    assert [problem for outcome in found for problem in outcome.problems] == []


@pytest.mark.skipif(bool(WITHOUT_STEPS), reason=WITHOUT_STEPS)
def test_a_command_killed_at_each_step_leaves_old_or_new(context: ForkServerContext, tmp_path: Path) -> None:
    trials = Trials(context, tmp_path, COMMANDS["export-files"])
    steps = {step.kind: step for step in trials.steps()}
    found = [trials.at_step(step) for step in steps.values()]
    assert {"openat", "write", "fsync", "rename"} <= {outcome.step.split()[0] for outcome in found if outcome.step}
    assert [problem for outcome in found for problem in outcome.problems] == []
    assert any(outcome.left for outcome in found), "a kill between making a file and naming it leaves the file"


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.fault)
def test_a_writer_with_a_fault_is_reported(context: ForkServerContext, tmp_path: Path, control: Control) -> None:
    assert control.says in seen_of(control, context, tmp_path)


def test_what_is_half_is_called_torn(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"a": 1')
    (tmp_path / "whole.json").write_text('{"a": 1}')
    (tmp_path / "unknown.bin").write_bytes(b"x")
    (tmp_path / ".tmp-edge-mtl-1").write_bytes(b"x")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "a1b2_c3d").write_bytes(b"blat")
    tree = read_tree(tmp_path)
    assert sorted(line.partition(":")[0] for line in torn(tmp_path, tree, {}, set())) == ["half.json", "unknown.bin"]
    assert torn(tmp_path, tree, {name: {digest} for name, digest in tree.items()}, set()) == []
    assert leftovers(tmp_path) == [".tmp-edge-mtl-1"]


@pytest.mark.skipif(bool(WITHOUT_STEPS), reason=WITHOUT_STEPS)
def test_a_process_dies_before_the_step_takes_effect(context: ForkServerContext, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    child, log = Child(context, _write, tmp_path / "scratch"), tmp_path / "trace"
    tracer = tracing(child.pid, log)
    child.go()
    assert child.ended() == 0
    tracer.communicate()
    first, second = (step for step in read_steps(log, tmp_path / "scratch") if step.call == "openat")
    assert (first.kind, second.kind, first.count) == ("openat *.txt", "openat *.bin", 1)
    (tmp_path / "scratch" / "b.bin").unlink()
    child = Child(context, _write, tmp_path / "scratch")
    tracer = tracing(child.pid, log, Step(second.call, second.number, second.kind, 1))
    child.go()
    assert child.ended() == -signal.SIGKILL
    tracer.communicate()
    assert struck(log, tmp_path / "scratch") == second.kind
    assert not (tmp_path / "scratch" / "b.bin").exists()
    assert (tmp_path / "scratch" / "a.txt").exists()


def _write(folder: Path) -> int:
    (folder / "a.txt").write_text("a")
    (folder / "b.bin").write_text("b")
    return 0


def test_an_unknown_command_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["kills", "--commands", "build,bulid"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "unknown: bulid" in capsys.readouterr().err


def test_a_command_whose_packages_are_missing_says_so() -> None:
    command = replace(COMMANDS["build"], needs=("json", "no_such_package"))
    assert unavailable(command) == "build: needs no_such_package"
    assert unavailable(COMMANDS["build"]) == ""
