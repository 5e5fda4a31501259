"""The quick part of the gate `starvation`: some conditions on a command that is quick, and the positive control."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.reliability.starvation.conditions import KINDS, Condition, conditions, memory, memory_ceilings
from tests.reliability.system_errors.test_system_errors import run_gate
from tests.reliability.trials import COMMANDS, Command, environment, run


@pytest.mark.parametrize("kind", KINDS)
def test_every_condition_names_commands_that_there_are_or_says_why_it_cannot_be_tried(kind: str) -> None:
    with conditions(kind) as found:
        assert found
        for condition in found:
            assert condition.kind == kind
            assert set(condition.commands) <= set(COMMANDS)
            assert condition.commands
            if os.geteuid() == 0:
                assert "root" not in condition.missing.split()


def test_ever_more_memory_begins_where_nothing_works() -> None:
    ceilings = list(memory_ceilings())
    assert ceilings == sorted(set(ceilings))
    assert ceilings[0] == 300 << 20
    assert memory(ceilings[0]).works is False


@pytest.mark.parametrize(
    ("name", "program", "said"),
    [
        ("16 open files", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])", "16"),
        ("one core", "import os; print(len(os.sched_getaffinity(0)))", "1"),
        ("the working folder was deleted", "import os\ntry: os.getcwd()\nexcept FileNotFoundError: print('gone')", "gone"),
        ("no standard input", "import sys; print(sys.stdin)", "None"),
        ("HOME is missing", "import os; print(os.path.exists(os.environ['HOME']))", "False"),
    ],
)
def test_a_condition_takes_away_what_it_says(name: str, program: str, said: str, tmp_path: Path) -> None:
    every: list[Condition] = []
    for kind in KINDS:
        with conditions(kind) as found:
            every += found
    condition = next(condition for condition in every if condition.name == name)
    (tmp_path / "home").mkdir()
    (tmp_path / "script.py").write_text(program)
    variables = {name: value for name, value in condition.variables.items() if value is not None}
    options = {"env": environment(tmp_path) | variables, "preexec_fn": condition.first}
    assert run(Command("x", (), program="script"), tmp_path, prefix=condition.prefix, **options) == (0, f"{said}\n", "")


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    words = ("sh", "-c", '"$@" | cat', "sh")
    code, out, _ = run(Command("x", (), program="script"), tmp_path, prefix=words, timeout_s=5)
    assert code is None
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(out), 0)
            subprocess.run(["sleep", "0.05"], check=True)


def test_a_script_works_or_says_why_without_streams_and_files_and_the_control_is_seen(tmp_path: Path) -> None:
    words = ("streams", "processors", "--commands", "script")
    record = run_gate("starvation", *words, out=tmp_path / "record.json")
    assert record["violations"] == []
    assert record["counts"]["trials"] >= 5
    (control,) = record["controls"]
    assert "a traceback: AttributeError" in control["seen"]
